"""Times of delays: units, distributions, and what is wrong with others."""

from __future__ import annotations

from fractions import Fraction

import pytest

from asyncpipe.analysis.delay_time import DelayTime, parse_delay_time
from asyncpipe.analysis.distribution import Distribution


@pytest.mark.parametrize(
    ("text", "value", "unit"),
    [
        ("2", Fraction(2), ""),
        ("4T", Fraction(4), "T"),
        ("1/3 T", Fraction(1, 3), "T"),
        ("1e-3s", Fraction(1, 1000), "s"),
        ("20ms", Fraction(1, 50), "s"),
        ("exponential(2T)", Distribution("exponential", (Fraction(2),)), "T"),
        ("normal(2ms, 1ms)", Distribution("normal", (Fraction(1, 500), Fraction(1, 1000))), "s"),
        ("lognormal(20ms,0.5)", Distribution("lognormal", (Fraction(1, 50), Fraction(1, 2))), "s"),
    ],
)
def test_a_time_is_a_number_or_a_distribution_in_a_unit(text: str, value: Fraction | Distribution, unit: str) -> None:
    time = parse_delay_time(text)
    assert time == DelayTime(value, unit)
    assert parse_delay_time(str(time)) == time


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("4x", "expected a number of at least 0 or a distribution"),
        ("-1T", "expected a number of at least 0"),
        ("normal(4T,1)", "expected one unit for all times"),
        ("uniform(1T,2s)", "expected one unit for all times"),
        ("lognormal(4T,1T)", "the second number of lognormal has no unit"),
        ("gamma(1T)", "no distribution is called 'gamma'"),
    ],
)
def test_a_wrong_time_is_named(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        parse_delay_time(text)

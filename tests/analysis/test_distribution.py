"""Times as numbers and distributions: their texts, their centers, and what is drawn from them."""

from __future__ import annotations

import re
from fractions import Fraction

import numpy as np
import pytest

from asyncpipe.analysis.distribution import Distribution, center, parse_value

SAMPLES = (200_000,)


@pytest.mark.parametrize(
    ("text", "value"), [("2", 2), (" 1/3 ", Fraction(1, 3)), ("1e-3", Fraction(1, 1000)), ("0", 0)]
)
def test_numbers_are_exact(text: str, value: Fraction) -> None:
    assert parse_value(text) == center(parse_value(text)) == value


@pytest.mark.parametrize(
    ("text", "middle"),
    [
        ("uniform(1,3)", 2),
        ("normal(2,1/10)", 2),
        ("lognormal(2,1/2)", 2),
        ("exponential(3/2)", Fraction(3, 2)),
    ],
)
def test_text_of_a_distribution_reads_back(text: str, middle: Fraction) -> None:
    found = parse_value(text)
    assert isinstance(found, Distribution)
    assert str(found) == text
    assert parse_value(text.replace(",", " , ").replace("(", " ( ")) == found
    assert found.center == middle


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "expected a number of at least 0 or a distribution, found ''"),
        ("-1", "expected a number of at least 0, found '-1'"),
        ("two", "expected a number of at least 0 or a distribution, found 'two'"),
        ("gamma(1)", "no distribution is called 'gamma'\nexpected one of: uniform, normal, lognormal, exponential"),
        ("normla(1,2)", "no distribution is called 'normla'\ndid you mean 'normal'?"),
        ("normal(1)", "normal takes 2 numbers, found 'normal(1)'"),
        ("exponential(1,2)", "exponential takes 1 number, found 'exponential(1,2)'"),
        ("normal(1,x)", "normal takes 2 numbers, found 'normal(1,x)'"),
        ("normal(-1,1)", "expected a number of at least 0, found 'normal(-1,1)'"),
        ("uniform(3,1)", "uniform takes the lower bound first, found 'uniform(3,1)'"),
        ("normal(normal(1,1),1)", "expected a number of at least 0 or a distribution, found 'normal(normal(1,1),1)'"),
    ],
)
def test_what_is_no_time_is_refused(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        parse_value(text)


def drawn(text: str) -> np.ndarray:
    value = parse_value(text)
    assert isinstance(value, Distribution)
    return value.draw(np.random.default_rng(0), SAMPLES)


def test_draws_have_the_moments_that_they_should() -> None:
    uniform, exponential, log = drawn("uniform(1,3)"), drawn("exponential(2)"), np.log(drawn("lognormal(2,0.5)"))
    assert (uniform.min() >= 1, uniform.max() <= 3) == (True, True)
    assert uniform.mean() == pytest.approx(2, rel=0.01)
    assert (exponential.mean(), exponential.std()) == (pytest.approx(2, rel=0.02), pytest.approx(2, rel=0.02))
    assert (log.mean(), log.std()) == (pytest.approx(np.log(2), rel=0.02), pytest.approx(0.5, rel=0.02))


def test_normal_times_are_drawn_again_below_zero() -> None:
    """Half a normal distribution has the mean sqrt(2/pi) std, and no weight at 0."""
    narrow, half = drawn("normal(5,0.1)"), drawn("normal(0,1)")
    assert (narrow.mean(), narrow.std()) == (pytest.approx(5, rel=0.01), pytest.approx(0.1, rel=0.02))
    assert half.min() > 0
    assert half.mean() == pytest.approx(np.sqrt(2 / np.pi), rel=0.02)
    assert drawn("normal(2,0)").tolist() == [2.0] * SAMPLES[0]

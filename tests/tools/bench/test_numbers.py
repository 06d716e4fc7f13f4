"""Medians, spreads and intervals of ratios: exact cases, and what resampling must do."""

from __future__ import annotations

import random
import statistics

import pytest

from asyncpipe.tools.bench.numbers import ratio_of_medians, ratio_of_ratios, spread


def test_a_spread_is_the_median_and_the_outer_tenths() -> None:
    assert spread([float(n) for n in range(11)]) == {"median": 5.0, "p10": 1.0, "p90": 9.0}
    assert spread([3.0]) == {"median": 3.0, "p10": 3.0, "p90": 3.0}


def test_equal_rounds_leave_no_doubt() -> None:
    assert ratio_of_medians([2.0] * 5, [1.0] * 5) == (2.0, 2.0, 2.0)
    assert ratio_of_ratios(([3.0] * 5, [1.0] * 5), ([2.0] * 7, [1.0] * 7)) == (1.5, 1.5, 1.5)


def test_what_disturbs_both_sides_of_a_round_leaves_no_doubt() -> None:
    slow = [1.0, 1.5, 4.0, 1.1, 2.0]
    assert ratio_of_medians([3 * s for s in slow], slow) == pytest.approx((3.0, 3.0, 3.0))


def test_the_interval_is_about_as_wide_as_that_of_the_median() -> None:
    rng = random.Random(5)
    values = [rng.gauss(10.0, 1.0) for _ in range(101)]
    found = ratio_of_medians(values, [10.0] * 101)
    # The standard error of a median of n normal values is 1.2533 sigma / sqrt(n).
    half = 1.96 * 1.2533 * statistics.stdev(values) / 101**0.5 / 10
    assert found.low < found.ratio < found.high
    assert (found.high - found.low) / 2 == pytest.approx(half, rel=0.35)


def test_equal_measurements_give_equal_intervals() -> None:
    a, b = [1.0, 2.0, 4.0, 3.0], [2.0, 1.0, 1.0, 3.0]
    assert ratio_of_medians(a, b) == ratio_of_medians(a, b)

"""Medians of rounds, ratios, and the intervals around them."""

from __future__ import annotations

from random import Random

import pytest

from asyncpipe.tools.tune.statistics import Interval, ratio_of, speed_of


def rounds(center: float, spread: float, count: int = 5, seed: int = 0) -> dict[int, list[float]]:
    random = Random(seed)
    return {number: [random.gauss(center, spread) for _ in range(5)] for number in range(count)}


def test_one_round_has_no_interval() -> None:
    assert speed_of({0: [3.0, 1.0, 2.0]}) == Interval(2.0)
    assert ratio_of({0: [4.0]}, {0: [2.0]}) == Interval(2.0)


def test_rounds_that_only_one_side_has_do_not_count() -> None:
    assert ratio_of({0: [4.0], 1: [9.0]}, {0: [2.0], 2: [1.0]}) == Interval(2.0)
    assert ratio_of({0: [4.0]}, {1: [2.0]}) is None
    assert ratio_of({0: []}, {0: [1.0]}) is None


def test_equal_windows_leave_no_doubt() -> None:
    assert ratio_of({n: [3.0, 3.0] for n in range(3)}, {n: [2.0, 2.0] for n in range(3)}) == Interval(1.5, 1.5, 1.5)


def test_drift_of_the_machine_cancels_in_the_ratio() -> None:
    """The machine becomes three times slower from round to round; a is always 10 per cent faster."""
    b = {n: [x / 3**n for x in windows] for n, windows in rounds(100, 1).items()}
    a = {n: [1.1 * x / 3**n for x in windows] for n, windows in rounds(100, 1, seed=1).items()}
    found = ratio_of(a, b)
    assert found is not None
    assert found.low is not None
    assert found.high is not None
    assert 1.08 < found.low < found.value < found.high < 1.12


def test_a_process_with_bad_luck_widens_the_interval() -> None:
    """Windows of one round agree with each other, and tell nothing of the other rounds."""
    lucky = {0: [100.0] * 5, 1: [100.0] * 5, 2: [80.0] * 5}
    assert speed_of(lucky) == Interval(100.0, 80.0, 100.0)


@pytest.mark.parametrize("seed", range(6))
def test_interval_holds_the_true_ratio(seed: int) -> None:
    found = ratio_of(rounds(120, 6, 7, seed), rounds(100, 5, 7, seed + 100))
    assert found is not None
    assert found.holds(1.2)
    assert not found.holds(1.0)

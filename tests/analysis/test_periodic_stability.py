"""Patterns of delays against workers in step, whose updates together are one, and against the recursion."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from asyncpipe.analysis.periodic_stability import MOST_STATES, largest_periodic_gain
from asyncpipe.analysis.stability import StepRule, heavy_ball, largest_gain, nesterov


def in_step(workers: int) -> list[dict[int, float]]:
    return [{delay: 1.0} for delay in range(workers)]


def grows(gain: float, delays: Sequence[int], rule: StepRule) -> bool:
    """Whether the recursion, written out for one delay per update, swings wider in the end than in the middle."""
    theta, velocities, widest = [1.0] * (max(delays) + 1), [0.0] * rule.owners, [0.0, 0.0]
    for update in range(2000):
        gradient = theta[-1 - delays[update % len(delays)]]
        owner = update % rule.owners
        velocities[owner] = rule.momentum * velocities[owner] + gradient
        theta = [*theta[1:], theta[-1] - gain * (rule.by_velocity * velocities[owner] + rule.by_gradient * gradient)]
        if update >= 500:
            late = update >= 1500
            widest[late] = max(widest[late], abs(theta[-1]))
    return widest[1] > widest[0]


@pytest.mark.parametrize("workers", [2, 3, 5])
def test_workers_in_step_bear_the_rate_of_one_over_their_number(workers: int) -> None:
    """They read the same weights: theta - lr * workers * g."""
    assert largest_periodic_gain(in_step(workers), heavy_ball()) == pytest.approx(2 / workers, rel=1e-5)


def test_workers_in_step_with_a_momentum_each_are_one_with_momentum() -> None:
    found = largest_periodic_gain(in_step(3), StepRule(0.9, owners=3))
    assert found == pytest.approx(3.8 / 3, rel=1e-5)


@pytest.mark.parametrize("delays", [(1, 2), (0, 3, 1)])
@pytest.mark.parametrize("rule", [heavy_ball(), heavy_ball(0.9), nesterov(0.9), StepRule(0.8, owners=2)])
def test_recursion_shrinks_below_the_limit_and_grows_above(delays: tuple[int, ...], rule: StepRule) -> None:
    limit = largest_periodic_gain([{delay: 1.0} for delay in delays], rule)
    assert not grows(0.93 * limit, delays, rule)
    assert grows(1.07 * limit, delays, rule)


def test_equal_delays_are_no_pattern() -> None:
    rule = heavy_ball(0.9)
    assert largest_periodic_gain([{2: 1.0}, {2: 1.0}], rule) == largest_gain({2: 1.0}, rule)


def test_a_long_memory_counts_as_its_largest_delay() -> None:
    delays = [{1: 1.0}, {MOST_STATES: 1.0}]
    assert largest_periodic_gain(delays, heavy_ball()) == largest_gain({MOST_STATES: 1.0}, heavy_ball())


def test_nothing_is_stable_with_a_momentum_of_one() -> None:
    assert largest_periodic_gain(in_step(2), heavy_ball(1.0)) == 0

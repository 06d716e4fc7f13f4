"""Largest stable gains against the closed form, against the recursion itself, and against the roots' criterion."""

from __future__ import annotations

import math
from collections.abc import Mapping

import pytest

from asyncpipe.analysis.stability import (
    StepRule,
    characteristic,
    heavy_ball,
    is_stable,
    largest_gain,
    nesterov,
    plain_limit,
    share,
)

RULES = {
    "plain": heavy_ball(),
    "heavy ball": heavy_ball(0.9),
    "damped": heavy_ball(0.9, 0.5),
    "adam's momentum": heavy_ball(0.9, 0.9),
    "nesterov": nesterov(0.9),
    "spike": StepRule(0.9, by_velocity=0.9**3, by_gradient=(1 - 0.9**3) / 0.1),
    "an owner each": StepRule(0.9, owners=3),
    "nearly one": heavy_ball(0.999),
}
DELAYS: dict[str, Mapping[int, float]] = {
    "none": {0: 1.0},
    "one": {1: 1.0},
    "three": {3: 1.0},
    "accumulated": {0: 0.25, 1: 0.5, 2: 0.25},
    "straggler": {1: 0.9, 12: 0.1},
    "predicted": {2: 3.0, 3: -2.0},
}


def grows(gain: float, delays: Mapping[int, float], rule: StepRule, updates: int) -> bool:
    """Whether theta at last swings wider than in the middle, in the recursion written out."""
    deepest = max(delays)
    theta, velocities, widest = [1.0] * (deepest + 1), [0.0] * rule.owners, [0.0, 0.0]
    for update in range(updates):
        gradient = sum(weight * theta[-1 - delay] for delay, weight in delays.items())
        owner = update % rule.owners
        velocities[owner] = rule.momentum * velocities[owner] + (1 - rule.dampening) * gradient
        new = theta[-1] - gain * (rule.by_velocity * velocities[owner] + rule.by_gradient * gradient)
        theta = [*theta[-deepest:], new] if deepest else [new]
        if update >= updates // 4:
            late = update >= 3 * updates // 4
            widest[late] = max(widest[late], abs(new))
    return widest[1] > widest[0]


@pytest.mark.parametrize("delay", [0, 1, 2, 4, 8, 16, 63])
def test_without_momentum_the_limit_is_the_closed_form(delay: int) -> None:
    assert largest_gain({delay: 1.0}, heavy_ball()) == pytest.approx(plain_limit(delay), rel=1e-12)


@pytest.mark.parametrize(
    ("delay", "plain", "with_momentum"),
    [(0, 2, 3.8), (1, 1, 0.1), (2, 0.618, 0.0512), (4, 0.3473, 0.0265), (8, 0.1845, 0.01394), (16, 0.0952, 0.00749)],
)
def test_one_step_of_delay_costs_momentum_most_of_its_margin(delay: int, plain: float, with_momentum: float) -> None:
    """The table of gains for heavy ball 0.9: 38 times less for the first step."""
    assert plain_limit(delay) == pytest.approx(plain, rel=3e-3)
    assert largest_gain({delay: 1.0}, heavy_ball(0.9)) == pytest.approx(with_momentum, rel=3e-3)


@pytest.mark.parametrize("delays", DELAYS.values(), ids=DELAYS)
@pytest.mark.parametrize("rule", RULES.values(), ids=RULES)
def test_roots_leave_the_unit_circle_at_the_limit_and_not_before(rule: StepRule, delays: Mapping[int, float]) -> None:
    limit = largest_gain(delays, rule)
    for fraction in (1e-3, 0.1, 0.3, 0.5, 0.7, 0.9, 0.97, 1 - 1e-6):
        assert is_stable(fraction * limit, delays, rule)
    assert not is_stable((1 + 1e-6) * limit, delays, rule)


@pytest.mark.parametrize("delays", DELAYS.values(), ids=DELAYS)
@pytest.mark.parametrize("rule", list(RULES.values())[:-1], ids=list(RULES)[:-1])
def test_recursion_shrinks_below_the_limit_and_grows_above(rule: StepRule, delays: Mapping[int, float]) -> None:
    limit = largest_gain(delays, rule)
    assert not grows(0.93 * limit, delays, rule, 1500)
    assert grows(1.07 * limit, delays, rule, 1500)


def test_characteristic_polynomial_has_the_powers_of_the_recursion() -> None:
    """z^3 - 1.5 z^2 + 0.5 z + 0.2 z: momentum 0.5, a delay of 1, a gain of 0.2."""
    assert characteristic(0.2, {1: 1.0}, heavy_ball(0.5)) == pytest.approx([1, -1.5, 0.7, 0.0])


def test_a_mixture_lies_between_its_delays() -> None:
    rule = heavy_ball(0.9)
    mixed = largest_gain({1: 0.5, 3: 0.5}, rule)
    assert largest_gain({3: 1.0}, rule) < mixed < largest_gain({1: 1.0}, rule)


def test_prediction_gives_back_some_of_the_range() -> None:
    assert largest_gain(DELAYS["predicted"], heavy_ball(0.9)) > largest_gain({2: 1.0}, heavy_ball(0.9))


def test_nothing_is_stable_from_a_momentum_of_one_on_nor_with_all_gradients_turned_round() -> None:
    assert largest_gain({0: 1.0}, heavy_ball(1.0)) == share(1.0, heavy_ball(1.0)) == 0
    assert largest_gain({0: 1.0}, heavy_ball(0.5, 1.5)) == 0


def test_copies_that_overwrite_one_another_may_drift_apart_at_any_rate() -> None:
    """theta <- theta two updates ago - gain * theta `delay` ago: an even delay reads the other copy."""
    copies = StepRule(owners=2, private=True)
    assert [largest_gain({delay: 1.0}, copies) for delay in range(6)] == pytest.approx([0, 2, 0, 1, 0, plain_limit(2)])


def share_of(delay: int, rule: StepRule) -> float:
    return share(largest_gain({delay: 1.0}, rule), rule)


def test_share_is_one_for_plain_sgd_and_a_sine_with_delay() -> None:
    assert share_of(0, heavy_ball()) == pytest.approx(1)
    assert share_of(3, heavy_ball()) == pytest.approx(math.sin(math.pi / 14))


def test_share_counts_momentum_by_the_whole_gradient_in_the_end() -> None:
    assert share_of(0, heavy_ball(0.9)) == pytest.approx(19)
    assert share_of(1, heavy_ball(0.9)) == pytest.approx(0.5)
    assert share_of(1, heavy_ball(0.9, 0.9)) == pytest.approx(0.5)
    assert RULES["spike"].total == nesterov(0.9).total == pytest.approx(10)

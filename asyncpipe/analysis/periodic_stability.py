"""Stability where the delay is another one from update to update, in a pattern that recurs: by Floquet's theorem.

Two workers in step, say, update with the delays 0, 1, 0, 1: together one step of twice the size, which is stable for
half the learning rates that the average delay of 1/2 would leave.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from operator import mul

from asyncpipe.analysis.stability import Delays, StepRule, largest_gain

__all__ = ["MOST_STATES", "largest_periodic_gain"]

MOST_STATES = 20
"""Of longer memories the largest delay counts, as if every gradient had it."""
_SQUARINGS = 16
_HALVINGS = 22

Matrix = list[list[float]]


def largest_periodic_gain(pattern: Sequence[Delays], rule: StepRule) -> float:
    """The largest stable gain under delays that go through `pattern` again and again.

    Exact for equal delays; else to six digits, unless there are more than MOST_STATES states. Taken to be stable from 0
    up to one limit. 0 where nothing is stable.
    """
    if all(delays == pattern[0] for delays in pattern):
        return largest_gain(pattern[0], rule)
    deepest = max(rule.period - 1, *(max(delays) for delays in pattern))
    if deepest + 1 + rule.owners > MOST_STATES:
        return largest_gain({deepest: 1.0}, rule)
    turns = list(pattern) * (math.lcm(len(pattern), rule.owners) // len(pattern))
    low, high = 0.0, largest_gain({deepest: 1.0}, replace(rule, private=False))
    while high and _shrinks(_period(high, turns, rule, deepest)):
        low, high = high, 2 * high
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        if _shrinks(_period(middle, turns, rule, deepest)):
            low = middle
        else:
            high = middle
    return low


def _period(gain: float, turns: Sequence[Delays], rule: StepRule, deepest: int) -> Matrix:
    """What one period makes of each unit vector of (theta now, ..., theta `deepest` updates ago, velocities)."""
    size = deepest + 1 + rule.owners
    return [_applied([float(i == j) for j in range(size)], gain, turns, rule) for i in range(size)]


def _applied(state: list[float], gain: float, turns: Sequence[Delays], rule: StepRule) -> list[float]:
    for number, delays in enumerate(turns):
        owner = number % rule.owners - rule.owners
        gradient = sum(weight * state[delay] for delay, weight in delays.items())
        velocity = rule.momentum * state[owner] + (1 - rule.dampening) * gradient
        moved = state[rule.period - 1] - gain * (rule.by_velocity * velocity + rule.by_gradient * gradient)
        state = [moved, *state[: -rule.owners - 1], *state[-rule.owners :]]
        state[owner] = velocity
    return state


def _shrinks(matrix: Matrix) -> bool:
    """Whether the spectral radius is below 1, from the norm of the 2^16-th power."""
    logarithm = 0.0
    for _ in range(_SQUARINGS):
        largest = max(abs(value) for row in matrix for value in row)
        if largest == 0:
            return True
        logarithm = 2 * (logarithm + math.log(largest))
        scaled = [[value / largest for value in row] for row in matrix]
        columns = list(zip(*scaled, strict=True))
        matrix = [[sum(map(mul, row, column)) for column in columns] for row in scaled]
    return logarithm < 0

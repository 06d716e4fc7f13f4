"""What is compared: accuracy after equal samples and equal time, samples and time to an equal accuracy."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

from asyncpipe.tools.compare.arms import Pairs
from asyncpipe.tools.compare.paired import Difference, paired_t
from asyncpipe.tools.report.groups import Spread, spread
from asyncpipe.tools.report.runs import Run

__all__ = ["Goal", "Measure", "common_goal", "measures", "reached", "until"]

Point = tuple[float, float]


@dataclass(frozen=True)
class Goal:
    """A test accuracy to reach or, where the job has none, a test loss to fall to."""

    value: float
    is_loss: bool = False

    def __str__(self) -> str:
        return f"test loss {self.value:.4g}" if self.is_loss else f"{100 * self.value:.4g} %"

    @property
    def key(self) -> str:
        return "loss" if self.is_loss else "accuracy"

    def merit(self, value: float) -> float:
        """More is better."""
        return -value if self.is_loss else value


@dataclass(frozen=True)
class Measure:
    """One number for each run, pair by pair; `difference` is of b - a or, of a ratio, of log(a / b).

    None stands for a run without the number; then there is no difference either, nor where a number is only a bound.
    """

    name: str
    unit: str
    a: tuple[float | None, ...]
    b: tuple[float | None, ...]
    is_ratio: bool
    early_a: tuple[bool, ...] = ()
    early_b: tuple[bool, ...] = ()
    """Of numbers of a goal: which runs had passed it at their first evaluation (left-censored: true value or above)."""

    @property
    def is_censored(self) -> bool:
        return any((*self.early_a, *self.early_b))

    @property
    def spreads(self) -> tuple[Spread | None, Spread | None]:
        """Of the numbers that are no bounds."""
        a, b = (_exact(*side) for side in ((self.a, self.early_a), (self.b, self.early_b)))
        return spread(a), spread(b)

    @property
    def difference(self) -> Difference | None:
        a = [value for value in self.a if value is not None]
        b = [value for value in self.b if value is not None]
        if self.is_censored or len(a) < len(self.a) or len(b) < len(self.b):
            return None
        if not self.is_ratio:
            return paired_t(a, b)
        found = paired_t([math.log(value) for value in b], [math.log(value) for value in a])
        return Difference(math.exp(found.mean), math.exp(found.low), math.exp(found.high), found.p)


def common_goal(pairs: Pairs) -> Goal:
    """The best that every run came to: the worst of the runs' best evaluations."""
    is_loss = any(row["accuracy"] is None for run in pairs.runs for row in run.evaluations)
    goal = Goal(0.0, is_loss)
    best = [max(goal.merit(row[goal.key]) for row in run.evaluations) for run in pairs.runs]
    return Goal(goal.merit(min(best)), is_loss)


def measures(pairs: Pairs, goal: Goal) -> list[Measure]:
    """Those of this module, the time to the goal last."""
    samples = min(run.evaluations[-1]["samples"] for run in pairs.runs)
    time = min(_points(run, goal, True)[-1][0] for run in pairs.runs)
    unit = "T" if pairs.is_virtual else "s"
    scale = "" if goal.is_loss else "%"
    return [
        _measure(f"test {goal.key} after {samples} samples", scale, pairs, lambda run: _at(run, goal, samples, False)),
        _measure(f"test {goal.key} after {time:.4g} {unit}", scale, pairs, lambda run: _at(run, goal, time, True)),
        _until_goal(f"samples to {goal}", "", pairs, goal, False),
        _until_goal(f"time to {goal}", unit, pairs, goal, True),
    ]


def _measure(name: str, unit: str, pairs: Pairs, of: Callable[[Run], float | None], is_ratio: bool = False) -> Measure:
    return Measure(name, unit, tuple(map(of, pairs.a.runs)), tuple(map(of, pairs.b.runs)), is_ratio)


def _until_goal(name: str, unit: str, pairs: Pairs, goal: Goal, by_time: bool) -> Measure:
    found = _measure(name, unit, pairs, lambda run: until(run, goal, by_time), True)
    early_a, early_b = (tuple(_passed_early(run, goal) for run in arm.runs) for arm in (pairs.a, pairs.b))
    return replace(found, early_a=early_a, early_b=early_b)


def _passed_early(run: Run, goal: Goal) -> bool:
    """Whether the first evaluation is at the goal already, so that nothing tells when the run came to it."""
    return goal.merit(run.evaluations[0][goal.key]) >= goal.merit(goal.value)


def _exact(values: Sequence[float | None], early: Sequence[bool]) -> list[float | None]:
    return [None if i < len(early) and early[i] else value for i, value in enumerate(values)]


def _points(run: Run, goal: Goal, by_time: bool) -> list[Point]:
    found = []
    for row in run.evaluations:
        x = run.time_of(row) if by_time else float(row["samples"])
        assert x is not None
        found.append((x, float(row[goal.key])))
    return found


def _at(run: Run, goal: Goal, x: float, by_time: bool) -> float | None:
    """Between two evaluations as on a line; None before the first."""
    points = _points(run, goal, by_time)
    for (x0, y0), (x1, y1) in pairwise(points):
        if x0 <= x <= x1:
            return y0 + (y1 - y0) * ((x - x0) / (x1 - x0))
    return points[-1][1] if x >= points[-1][0] else None


def until(run: Run, goal: Goal, by_time: bool) -> float | None:
    """Samples or time at which the line through the evaluations first comes to the goal; None: it never does.

    Of a run that is there at its first evaluation, that evaluation: an upper bound.
    """
    points = [(x, goal.merit(y) - goal.merit(goal.value)) for x, y in _points(run, goal, by_time)]
    if points[0][1] >= 0:
        return points[0][0]
    for (x0, y0), (x1, y1) in pairwise(points):
        if y1 >= 0:
            return x0 + (x1 - x0) * (-y0 / (y1 - y0))
    return None


def reached(values: Sequence[float | None]) -> int:
    """How many runs came to the goal."""
    return sum(value is not None for value in values)

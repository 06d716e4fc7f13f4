"""Staleness by replay of the plan: reads at an action's start, writes at its end, ends before starts.

Staleness of stage s and microbatch m: the version to which U[s, g] is applied, minus the version that F[s, m] read.
"""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass
from fractions import Fraction

from asyncpipe.ir import Action, Op
from asyncpipe.passes.diagram import Diagram
from asyncpipe.passes.order import Moment, Plan

__all__ = ["Staleness", "Versions", "staleness"]

_FAR = 10**6
"""A period after so many others is a steady one."""


@dataclass(frozen=True)
class Staleness:
    """Per stage, over one steady period: mean and maximum of `apply`, and the mean between forward and backward."""

    apply: tuple[Fraction, ...]
    max: tuple[int, ...]
    forward_backward: tuple[Fraction, ...]


class Versions:
    """How many updates of a stage the planned timing has applied at any moment."""

    def __init__(self, diagram: Diagram, plan: Plan, stage: int) -> None:
        self.every = diagram.every
        self.plan = plan
        self.stage = stage
        self.begin = plan.times[Action(0, Op.F, plan.start)][0]
        updates = (action for action in plan.times if action.op is Op.U and action.stage == stage)
        self.ends = sorted(plan.ends(update, self.every) for update in updates)

    def read_by(self, action: Action) -> int:
        """The version that an action reads when it starts."""
        return self._before(self.plan.starts(action, self.every))

    def applied_to(self, update: int) -> int:
        """The version that an update finds when it is applied; simultaneous updates count in ascending order."""
        return self._before(self.plan.ends(Action(self.stage, Op.U, update), self.every))

    def _before(self, moment: Moment) -> int:
        """The updates applied before a moment; those of whole periods are counted at once."""
        plan = self.plan
        rounds = max(0, (moment[0] - self.begin) // plan.period)
        recorded = bisect_left(self.ends, plan.earlier(moment, rounds, self.every))
        return recorded + rounds * (plan.microbatches // self.every)


def staleness(diagram: Diagram, plan: Plan) -> Staleness:
    """The staleness of every stage over one steady period."""
    apply, most, between = [], [], []
    far = plan.start + _FAR * plan.microbatches
    period = range(far, far + plan.microbatches)
    for stage in range(diagram.stages):
        versions = Versions(diagram, plan, stage)
        reads = [versions.read_by(Action(stage, Op.F, m)) for m in period]
        back = diagram.backward_op(stage)
        lags = [versions.applied_to(m // diagram.every) - read for m, read in zip(period, reads, strict=True)]
        gaps = [versions.read_by(Action(stage, back, m)) - read for m, read in zip(period, reads, strict=True)]
        apply.append(Fraction(sum(lags), len(lags)))
        most.append(max(lags))
        between.append(Fraction(sum(gaps), len(gaps)))
    return Staleness(tuple(apply), tuple(most), tuple(between))

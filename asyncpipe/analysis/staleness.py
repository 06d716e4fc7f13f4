"""Staleness by replay of the plan: reads at an action's start, writes at its end, ends before starts.

Staleness of stage s and microbatch m: the version to which U[s, g] is applied, minus the version that F[s, m] read.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from dataclasses import dataclass
from fractions import Fraction

from asyncpipe.ir import Action, Op
from asyncpipe.passes.diagram import Diagram
from asyncpipe.passes.order import Plan

__all__ = ["Staleness", "Versions", "staleness"]


@dataclass(frozen=True)
class Staleness:
    """Per stage, over one steady period: mean and maximum of `apply`, and the mean between forward and backward."""

    apply: tuple[Fraction, ...]
    max: tuple[int, ...]
    forward_backward: tuple[Fraction, ...]


class Versions:
    """How many updates of a stage the planned timing has applied at any instant."""

    def __init__(self, diagram: Diagram, plan: Plan, stage: int, microbatches: int) -> None:
        self.diagram = diagram
        self.plan = plan
        self.stage = stage
        updates = range(microbatches // diagram.every)
        ends = [(plan.time(Action(stage, Op.U, g), diagram.every)[1], g) for g in updates]
        self.ends = sorted(ends)

    def read_by(self, action: Action) -> int:
        """The version that an action reads when it starts."""
        start = self.plan.time(action, self.diagram.every)[0]
        return bisect_right(self.ends, (start, 10**12))

    def applied_to(self, update: int) -> int:
        """The version that an update finds when it is applied; simultaneous updates count in ascending order."""
        end = self.plan.time(Action(self.stage, Op.U, update), self.diagram.every)[1]
        return bisect_left(self.ends, (end, update))


def staleness(diagram: Diagram, plan: Plan) -> Staleness:
    """The staleness of every stage over one steady period."""
    apply, most, between = [], [], []
    for stage in range(diagram.stages):
        period = range(plan.start, plan.start + plan.microbatches)
        versions = Versions(diagram, plan, stage, horizon(diagram, plan))
        lags = [versions.applied_to(m // diagram.every) - versions.read_by(Action(stage, Op.F, m)) for m in period]
        back = diagram.gradient_op(stage)
        gaps = [versions.read_by(Action(stage, back, m)) - versions.read_by(Action(stage, Op.F, m)) for m in period]
        apply.append(Fraction(sum(lags), len(lags)))
        most.append(max(lags))
        between.append(Fraction(sum(gaps), len(gaps)))
    return Staleness(tuple(apply), tuple(most), tuple(between))


def horizon(diagram: Diagram, plan: Plan) -> int:
    """A microbatch whose update surely ends after every action of the first steady period."""
    last = plan.start + plan.microbatches
    latest = max(
        plan.time(Action(s, op, (last - 1) // (diagram.every if op is Op.U else 1)), diagram.every)[1]
        for op, s in diagram.ops
    )
    rounds = -(-latest // plan.period) if plan.period else 0
    return last + (rounds + 2) * plan.microbatches

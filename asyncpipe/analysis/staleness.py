"""Staleness by replay of the plan: reads at an action's start, writes at its end, ends before starts.

Staleness of stage s and microbatch m: the version to which U[s, g] is applied, minus the version that F[s, m] read.
"""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass, field
from fractions import Fraction

from asyncpipe.ir import Action, Op
from asyncpipe.passes.diagram import Diagram
from asyncpipe.passes.plan import Moment, Plan
from asyncpipe.schedule import Weights

__all__ = ["Staleness", "Versions", "staleness"]

_FAR = 10**6
"""A period after so many others is a steady one."""


@dataclass(frozen=True)
class Staleness:
    """Per stage, over one steady period: mean and maximum of `apply`, and the mean between forward and backward."""

    apply: tuple[Fraction, ...]
    max: tuple[int, ...]
    forward_backward: tuple[Fraction, ...]
    updates: tuple[tuple[tuple[int, ...], ...], ...] = field(default=(), compare=False)
    """Per stage, the updates of a period in the order in which they apply, each with the staleness of its microbatches;
    of a plan only."""


class Versions:
    """How many updates of a stage the planned timing has applied at any moment."""

    def __init__(self, diagram: Diagram, plan: Plan, stage: int, weights: Weights) -> None:
        self.every = diagram.every
        self.plan = plan
        self.stage = stage
        self.weights = weights
        self.begin = plan.times[Action(0, Op.F, plan.start)][0]
        own = plan.updates[stage]
        self.ends = sorted(plan.ends(update, self.every) for update in own)
        sent = (Action(stage, Op.SEND_U, update.index) for update in own)
        landed = (send if send in plan.times else update for send, update in zip(sent, own, strict=True))
        self.landings = sorted(plan.ends(action, self.every) for action in landed)
        """When each update shows on the device of the forward."""
        exists = diagram.exists.get((Op.U, stage))
        updates = range(plan.start // self.every, (plan.start + plan.microbatches) // self.every)
        self.in_period = len([g for g in updates if exists is None or exists(g)])

    def read_by(self, action: Action) -> int:
        """The version that an action reads: at its start the latest, unless `weights` says another one."""
        if action.op is Op.F:
            if self.weights.forward == "lag":
                return max(0, action.index // self.every - self.weights.lag)
            return self._before(self.plan.starts(action, self.every), self.landings)
        if self.weights.backward == "same":
            return self.read_by(action._replace(op=Op.F))
        return self._before(self.plan.starts(action, self.every), self.ends)

    def applied_to(self, update: int) -> int:
        """The version that an update finds when it is applied; simultaneous updates count in ascending order."""
        return self._before(self.plan.ends(Action(self.stage, Op.U, update), self.every), self.ends)

    def _before(self, moment: Moment, ends: list[Moment]) -> int:
        """The updates applied before a moment; those of whole periods are counted at once."""
        plan = self.plan
        rounds = max(0, (moment[0] - self.begin) // plan.period)
        recorded = bisect_left(ends, plan.earlier(moment, rounds, self.every))
        return recorded + rounds * self.in_period


def staleness(diagram: Diagram, plan: Plan, weights: Weights) -> Staleness:
    """The staleness of every stage over one steady period, of the microbatches that update it."""
    apply, most, between, updates = [], [], [], []
    far = plan.start + _FAR * plan.microbatches
    for stage in range(diagram.stages):
        versions = Versions(diagram, plan, stage, weights)
        steady = range(far, far + plan.microbatches)
        period = [m for m in steady if diagram.is_action(Action(stage, Op.U, m // diagram.every))]
        reads = [versions.read_by(Action(stage, Op.F, m)) for m in period]
        back = diagram.backward_op(stage)
        lags = [versions.applied_to(m // diagram.every) - read for m, read in zip(period, reads, strict=True)]
        gaps = [versions.read_by(Action(stage, back, m)) - read for m, read in zip(period, reads, strict=True)]
        apply.append(Fraction(sum(lags), len(lags)))
        most.append(max(lags))
        between.append(Fraction(sum(gaps), len(gaps)))
        updates.append(_by_update(diagram.every, period, reads, versions))
    return Staleness(tuple(apply), tuple(most), tuple(between), tuple(updates))


def _by_update(
    every: int, microbatches: list[int], reads: list[int], versions: Versions
) -> tuple[tuple[int, ...], ...]:
    read_for: dict[int, list[int]] = {}
    for microbatch, read in zip(microbatches, reads, strict=True):
        read_for.setdefault(microbatch // every, []).append(read)
    found = sorted((versions.applied_to(update), read) for update, read in read_for.items())
    return tuple(tuple(version - read for read in reads) for version, reads in found)

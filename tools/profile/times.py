"""What each op takes at each stage: distributions, costs for plans, and backward over forward."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from asyncpipe.analysis.prediction import microbatch_ends, steady_edges
from asyncpipe.errors import UsageError
from asyncpipe.ir import TRANSFERS, Op, TimedAction, TimedRun
from asyncpipe.tools.profile.distributions import Distribution, describe, sketch

__all__ = ["OpTimes", "steady_span", "times_of"]

Key = tuple[Op, int]


@dataclass(frozen=True)
class OpTimes:
    """By op and stage, in seconds; `samples` are what a simulation draws from."""

    distributions: Mapping[Key, Distribution]
    samples: Mapping[Key, Sequence[float]]

    @property
    def means(self) -> Mapping[Key, float]:
        """What a plan takes."""
        return {key: found.mean for key, found in self.distributions.items()}

    def of(self, op: Op) -> Mapping[int, Distribution]:
        return {stage: found for (one, stage), found in self.distributions.items() if one is op}

    def total(self, *ops: Op) -> float:
        """The means of these ops, over all stages."""
        return sum(seconds for (op, _), seconds in self.means.items() if op in ops)

    def costs(self, stages: int) -> dict[str, list[float]]:
        """As a profile has them: by op one number for each stage; all transfers of a stage are `SEND`."""
        found: dict[str, list[float]] = {}
        for op in Op:
            if not op.is_transfer and any(one is op for one, _ in self.means):
                found[op.value] = [self.means.get((op, stage), 0.0) for stage in range(stages)]
        sends = [[self.means[op, s] for op in TRANSFERS if (op, s) in self.means] for s in range(stages)]
        return found | ({"SEND": [sum(each) / max(1, len(each)) for each in sends]} if any(sends) else {})

    def beta(self, stage: int | None = None, ops: Iterable[Op] = (Op.B, Op.I, Op.W)) -> float | None:
        """Backward (or I and W) over forward, of one stage or of all; None where one of them was not measured."""
        means = {key: value for key, value in self.means.items() if stage in (None, key[1])}
        forward = sum(value for (op, _), value in means.items() if op is Op.F)
        backward = sum(value for (op, _), value in means.items() if op in tuple(ops))
        return backward / forward if forward and backward else None


def times_of(run: TimedRun, span: tuple[float, float]) -> OpTimes:
    """Of the actions that lie in the span; of all where an op has none there at that stage."""
    inside: dict[Key, list[float]] = {}
    everything: dict[Key, list[float]] = {}
    for timed in run.actions:
        key = timed.action.op, timed.action.stage
        everything.setdefault(key, []).append(timed.seconds)
        if span[0] <= timed.begin and timed.end <= span[1]:
            inside.setdefault(key, []).append(timed.seconds)
    values = {key: inside.get(key) or everything[key] for key in sorted(everything, key=_place)}
    described = {key: describe(seconds) for key, seconds in values.items()}
    known = {key: found for key, found in described.items() if found is not None}
    return OpTimes(known, {key: sketch(seconds) for key, seconds in values.items()})


def _place(key: Key) -> tuple[int, int]:
    return list(Op).index(key[0]), key[1]


def steady_span(actions: Sequence[TimedAction], run: TimedRun) -> tuple[float, float]:
    """From when to when a run was steady; all of it where it was too short for that."""
    ends = microbatch_ends((timed.replica, timed.action, timed.end) for timed in actions)
    try:
        first, last = steady_edges(len(ends), run.program)
    except UsageError:
        return 0.0, ends[-1]
    return ends[first], ends[last]

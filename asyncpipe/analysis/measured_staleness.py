"""Staleness counted in a simulated run: forwards read at their start, updates write at their end.

An update shows to the forward when it has arrived on its device; `lag` and `same` read the versions that they say.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Sequence
from fractions import Fraction

from asyncpipe.analysis.moments import Moment
from asyncpipe.analysis.staleness import Staleness
from asyncpipe.analysis.steady import SteadyRun
from asyncpipe.ir import Op

__all__ = ["StageVersions", "lag_of", "measured_staleness"]


def measured_staleness(runs: Sequence[SteadyRun]) -> Staleness:
    """The staleness of each stage: means over all that takes effect in the windows, over all replicas."""
    applied, between = [], []
    for stage in range(runs[0].graph.program.stages):
        versions = [StageVersions(run, stage) for run in runs]
        applied.append([(_weight(run), each.applied()) for run, each in zip(runs, versions, strict=True)])
        between.append([(_weight(run), each.between()) for run, each in zip(runs, versions, strict=True)])
    return Staleness(
        tuple(_mean(each) for each in applied),
        tuple(max((lag for _, lags in each for lag in lags), default=0) for each in applied),
        tuple(_mean(each) for each in between),
    )


def _weight(run: SteadyRun) -> Fraction:
    """How much one value of this run weighs: replicas that are looked at for longer have more of them."""
    return Fraction(len(run.members), run.window.length)


def _mean(weighted: Iterable[tuple[Fraction, list[int]]]) -> Fraction:
    weights, total = Fraction(0), Fraction(0)
    for weight, lags in weighted:
        weights += weight * len(lags)
        total += weight * sum(lags)
    return total / weights if weights else Fraction(0)


def lag_of(weights: str) -> int | None:
    """n of `lag(n)`, None for other weights."""
    return int(weights[4:-1]) if weights.startswith("lag(") else None


class StageVersions:
    """Which version of one stage's parameters everything reads, and finds when it is applied."""

    def __init__(self, run: SteadyRun, stage: int) -> None:
        graph, moments = run.graph, run.moments
        self.run = run
        self.stage = stage
        self.every = graph.program.every
        self.forwards = graph.numbers[Op.F, stage]
        self.updates = graph.numbers.get((Op.U, stage), {})
        sent = graph.numbers.get((Op.SEND_U, stage), {})
        self.writes: list[Moment] = sorted(moments.end(launch) for launch in self.updates.values())
        shown = self.updates | {index: launch for index, launch in sent.items() if index in self.updates}
        self.shown: list[Moment] = sorted(moments.end(launch) for launch in shown.values())
        self.lag = lag_of(graph.program.forward_weights)

    def read_by_forward(self, microbatch: int) -> int:
        if self.lag is not None:
            return max(0, microbatch // self.every - self.lag)
        return bisect_left(self.shown, self.run.moments.start(self.forwards[microbatch]))

    def read_by_backward(self, microbatch: int, launch: int) -> int:
        if self.run.graph.program.backward_weights == "same":
            return self.read_by_forward(microbatch)
        return bisect_left(self.writes, self.run.moments.start(launch))

    def applied(self) -> list[int]:
        """Per microbatch whose update ends in the window: updates since its forward read."""
        window, ends, moments = self.run.window, self.run.times.ends, self.run.moments
        lags = []
        for index, launch in self.updates.items():
            if window.begin <= ends[launch] < window.end:
                version = bisect_left(self.writes, moments.end(launch))
                microbatches = range(index * self.every, (index + 1) * self.every)
                lags += [version - self.read_by_forward(m) for m in microbatches]
        return lags

    def between(self) -> list[int]:
        """Per microbatch with an update whose backward starts in the window: updates since its forward read."""
        graph, window, starts = self.run.graph, self.run.window, self.run.times.starts
        updating = self._updating()
        gaps = []
        for op in (Op.B, Op.I):
            for m, launch in graph.numbers.get((op, self.stage), {}).items():
                inside = window.begin <= starts[launch] < window.end
                if inside and m // self.every % updating[0] in updating[1]:
                    gaps.append(self.read_by_backward(m, launch) - self.read_by_forward(m))
        return gaps

    def _updating(self) -> tuple[int, set[int]]:
        """(modulus, residues) of the updates that exist: where stages are divided, a stage has not every one."""
        graph = self.run.graph
        modulus = graph.program.step // self.every
        code = graph.keys.index((Op.U, self.stage)) if self.updates else -1
        first = graph.program.start // self.every
        return modulus, {(first + launch.index) % modulus for launch in graph.body if launch.key == code}

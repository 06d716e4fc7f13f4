"""Staleness counted in sampled runs, for all samples and replicas at once.

As in `measured_staleness`; but of effects at one instant an update counts before whatever reads, and simultaneous
updates count in ascending order.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING

from asyncpipe.analysis.measured_staleness import lag_of
from asyncpipe.analysis.sampling import SampledTimes
from asyncpipe.ir import Op

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Array = NDArray[np.float64]
    Counts = NDArray[np.int64]
    Mask = NDArray[np.bool_]

__all__ = ["StageLags", "stage_lags"]


@dataclass(frozen=True)
class StageLags:
    """Per sample, over its replicas: mean and maximum of what updates find, mean of what backwards find."""

    applied: list[Fraction]
    most: list[int]
    between: list[Fraction]


def stage_lags(times: SampledTimes, stage: int) -> StageLags:
    """Counts what takes effect in the later half of each run, up to where it may be cut off."""
    found = _Stage(times, stage)
    applied, inside = found.applied()
    means, most = _summary(applied, inside)
    between, _ = _summary(*found.between())
    return StageLags(means, most, between)


def _summary(lags: Counts, inside: Mask) -> tuple[list[Fraction], list[int]]:
    """Means and maxima per sample of the lags, (launches, samples, replicas), that count."""
    sums, counts = (lags * inside).sum(axis=(0, 2)), inside.sum(axis=(0, 2))
    most = (lags * inside).max(axis=(0, 2), initial=0)
    return [Fraction(int(s), max(1, int(n))) for s, n in zip(sums, counts, strict=True)], [int(m) for m in most]


class _Stage:
    def __init__(self, times: SampledTimes, stage: int) -> None:
        import numpy as np

        graph = times.graph
        self.numpy = np
        self.times = times
        self.program = graph.program
        self.stage = stage
        self.updates = graph.numbers.get((Op.U, stage), {})
        sent = graph.numbers.get((Op.SEND_U, stage), {})
        self.writes = times.ends[sorted(self.updates.values())]
        shown = [sent.get(index, launch) for index, launch in self.updates.items()]
        self.shown = times.ends[sorted(shown)]
        self.end: Array = times.starts[graph.first + (graph.iterations - 1) * graph.width :].min(axis=0)
        self.read: dict[int, Counts] = {}

    def _counted(self, ends: Array, moment: Array) -> Counts:
        counted: Counts = (ends <= moment).sum(axis=0)
        return counted

    def _inside(self, moment: Array) -> Mask:
        inside: Mask = (self.end / 2 <= moment) & (moment < self.end)
        return inside

    def _read_by_forward(self, microbatch: int) -> Counts:
        if microbatch not in self.read:
            lag = lag_of(self.program.forward_weights)
            if lag is not None:
                version = max(0, microbatch // self.program.every - lag)
                self.read[microbatch] = self.numpy.full(self.end.shape, version)
            else:
                launch = self.times.graph.numbers[Op.F, self.stage][microbatch]
                self.read[microbatch] = self._counted(self.shown, self.times.starts[launch])
        return self.read[microbatch]

    def applied(self) -> tuple[Counts, Mask]:
        lags, inside, every = [], [], self.program.every
        for index, launch in self.updates.items():
            own = self.times.ends[launch]
            if (counts := self._inside(own)).any():
                version = self._version(index, own)
                for microbatch in range(index * every, (index + 1) * every):
                    lags.append(version - self._read_by_forward(microbatch))
                    inside.append(counts)
        return self._stacked(lags, inside)

    def _version(self, index: int, own: Array) -> Counts:
        """Updates that ended before this one, or with it and come before it."""
        earlier = [launch for other, launch in self.updates.items() if other < index]
        version: Counts = (self.writes < own).sum(axis=0) + (self.times.ends[earlier] == own).sum(axis=0)
        return version

    def between(self) -> tuple[Counts, Mask]:
        lags, inside = [], []
        same = self.program.backward_weights == "same"
        for op in (Op.B, Op.I):
            for microbatch, launch in self.times.graph.numbers.get((op, self.stage), {}).items():
                start = self.times.starts[launch]
                if (counts := self._inside(start)).any() and microbatch // self.program.every in self.updates:
                    read = self._read_by_forward(microbatch)
                    lags.append(0 * read if same else self._counted(self.writes, start) - read)
                    inside.append(counts)
        return self._stacked(lags, inside)

    def _stacked(self, lags: Sequence[Counts], inside: Sequence[Mask]) -> tuple[Counts, Mask]:
        if not lags:
            empty = self.numpy.zeros((0, *self.end.shape), dtype=int)
            return empty, empty.astype(bool)
        return self.numpy.stack(lags), self.numpy.stack(inside)

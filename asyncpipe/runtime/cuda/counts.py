"""Staleness as the device counted it, on its way to the host, which never waits for the newest counts."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from asyncpipe.runtime.cuda.api import Cuda, Event, Stream
from asyncpipe.runtime.stage_updates import StageUpdates
from asyncpipe.runtime.version_counters import BINS, DeviceStaleness, counts_in

__all__ = ["DeviceCounts"]

Counts = list[Counter[int]]


@dataclass(frozen=True)
class _Sent:
    """Copies of one device: the histograms of `stages`, one after the other."""

    stages: Sequence[int]
    host: Tensor
    copied: Event


@dataclass
class DeviceCounts:
    """Of one replica and run. Histograms only grow, so that a period's counts are the difference of two copies."""

    cuda: Cuda
    updates: Sequence[StageUpdates]
    _sent: deque[list[_Sent]] = field(init=False, default_factory=deque)
    _before: Counts | None = field(init=False, default=None)
    _periods: Counts | None = field(init=False, default=None)

    def __post_init__(self) -> None:
        self._start = self._now()

    def send(self, launching: Mapping[int, Stream]) -> None:
        """Copies what is counted so far, on the stream of each device; first before the first period, then after each.

        All updates that it is to have come before on those streams, and later ones after.
        """
        self._sent.append([self._send(stream, stages) for stream, stages in self._by_stream(launching)])

    def _by_stream(self, launching: Mapping[int, Stream]) -> list[tuple[Stream, list[int]]]:
        homes = [self.cuda.device_of(self._histogram(stage)) for stage in range(len(self.updates))]
        return [(launching[device], [s for s, home in enumerate(homes) if home == device]) for device in set(homes)]

    def _send(self, stream: Stream, stages: Sequence[int]) -> _Sent:
        with self.cuda.on(stream):
            found = torch.cat([self._histogram(stage) for stage in stages])
            host = self.cuda.pinned(found)
            host.copy_(found, non_blocking=True)
        copied = self.cuda.event()
        self.cuda.record(copied, stream)
        return _Sent(stages, host, copied)

    def read(self, left: int = 0) -> None:
        """Waits for all copies but the last `left`."""
        while len(self._sent) > left:
            found: Counts = [Counter() for _ in self.updates]
            for sent in self._sent.popleft():
                self.cuda.synchronize(sent.copied)
                numbers = self.cuda.on_host(sent.host)
                for row, stage in enumerate(sent.stages):
                    found[stage] = counts_in(numbers[row * BINS : (row + 1) * BINS])
            if self._before is None:
                self._before = found
            else:
                self._periods = _difference(found, self._before)

    @property
    def periods(self) -> Counts | None:
        """By stage, of all launched periods that the host knows of."""
        return self._periods

    def finished(self) -> DeviceStaleness:
        """When everything has run, and was read."""
        return DeviceStaleness(_difference(self._now(), self._start), self._periods)

    def _now(self) -> Counts:
        """The device must be idle."""
        return [counts_in(self._histogram(stage).tolist()) for stage in range(len(self.updates))]

    def _histogram(self, stage: int) -> Tensor:
        counters = self.updates[stage].counters
        assert counters is not None
        return counters.histogram


def _difference(later: Counts, earlier: Counts) -> Counts:
    return [one - other for one, other in zip(later, earlier, strict=True)]

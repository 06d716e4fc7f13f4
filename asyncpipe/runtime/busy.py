"""How long each stream has been at work, summed while a run goes: two readings of a clock for each action."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import NamedTuple

from asyncpipe.ir import AUTHORED, Action
from asyncpipe.runtime.replicas import ReplicaGroup

__all__ = ["Busy", "BusyMeter"]


class Busy(NamedTuple):
    """Of `seconds`, how many each stream was at work: those that communicate are left out; of replicas the mean.

    An action counts where it ends.
    """

    seconds: float
    busy_s: list[float]


class BusyMeter:
    """Meters the run that it was attached to last."""

    def __init__(self) -> None:
        self._group: _BusyGroup | None = None
        self._since = 0
        self._before: list[int] = []

    def attach(self, group: ReplicaGroup) -> ReplicaGroup:
        """The same group, whose streams are metered from now on."""
        self._group = _BusyGroup(group.executions, group.synchroniser, group.delays, inner=group)
        self._since, self._before = time.perf_counter_ns(), [0] * len(group.program.streams)
        return self._group

    def take(self) -> Busy | None:
        """Since the last call, or since the run began; None before the first run."""
        if self._group is None:
            return None
        now, totals = time.perf_counter_ns(), self._group.totals()
        grown = [total - before for total, before in zip(totals, self._before, strict=True)]
        found = Busy((now - self._since) / 1e9, [grown[i] / 1e9 / len(self._group.executions) for i in self._working])
        self._since, self._before = now, totals
        return found

    @property
    def _working(self) -> list[int]:
        assert self._group is not None
        streams = enumerate(self._group.program.streams)
        return [i for i, stream in streams if any(op in AUTHORED for op in stream.runs)]


@dataclass(frozen=True, kw_only=True)
class _BusyGroup(ReplicaGroup):
    """`busy` is in nanoseconds, by replica and stream: one worker at a time is in a stream, so none is lost."""

    inner: ReplicaGroup
    busy: list[list[int]] = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "busy", [[0] * len(self.program.streams) for _ in self.executions])

    def run_at_once(self, replica: int, stream: int, action: Action) -> None:
        begin = time.perf_counter_ns()
        self.inner.run_at_once(replica, stream, action)
        self.busy[replica][stream] += time.perf_counter_ns() - begin

    def run(self, replica: int, stream: int, action: Action, ends: bool) -> None:
        begin = time.perf_counter_ns()
        self.inner.run(replica, stream, action, ends)
        self.busy[replica][stream] += time.perf_counter_ns() - begin

    def totals(self) -> list[int]:
        """By stream, of all replicas."""
        return [sum(each) for each in zip(*self.busy, strict=True)]

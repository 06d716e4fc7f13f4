"""The measured timeline of runs: when each action really began and ended, and on which worker.

On `streams` and `graph` the devices stamp (cuda/stamps.py). On `serial` and `threads` an action takes two readings of a
monotonic clock and one append, about half a microsecond: all workers append to one list, which the interpreter lock
keeps whole.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Protocol

from asyncpipe.ir import Action, TimedAction, TimedRun
from asyncpipe.runtime.replicas import ReplicaGroup

__all__ = ["Stopwatch", "Timed", "TimedAction", "TimedRun"]

Row = tuple[int, int, Action, int, int, int]


class Timed(Protocol):
    @property
    def timed_run(self) -> TimedRun:
        """What was timed so far."""


@dataclass
class Stopwatch:
    """Times every action of the runs that it is attached to."""

    _runs: list[Timed] = field(default_factory=list, repr=False)

    def attach(self, group: ReplicaGroup) -> ReplicaGroup:
        """The same group, whose actions are timed."""
        timed = _TimedGroup(group.executions, group.synchroniser, group.delays)
        self._runs.append(timed)
        return timed

    def follow(self, run: Timed) -> None:
        """A run that is timed elsewhere: on a device actions end later than the host issues them."""
        self._runs.append(run)

    @property
    def runs(self) -> list[TimedRun]:
        """All runs so far, in order; a run that failed has what ended before."""
        return [timed.timed_run for timed in self._runs]


@dataclass(frozen=True)
class _TimedGroup(ReplicaGroup):
    """Back ends call `run_at_once`, or `run` twice for each action: the later call, or the one that works, counts."""

    rows: list[Row] = field(default_factory=list)
    origin: int = field(default_factory=time.perf_counter_ns)

    def run_at_once(self, replica: int, stream: int, action: Action) -> None:
        begin = time.perf_counter_ns()
        super().run_at_once(replica, stream, action)
        self.rows.append((replica, stream, action, begin, time.perf_counter_ns(), threading.get_ident()))

    def run(self, replica: int, stream: int, action: Action, ends: bool) -> None:
        begin = time.perf_counter_ns()
        super().run(replica, stream, action, ends)
        if self.works(action, ends):
            self.rows.append((replica, stream, action, begin, time.perf_counter_ns(), threading.get_ident()))

    @property
    def timed_run(self) -> TimedRun:
        return TimedRun(self.program, list(self._timed_actions()))

    def _timed_actions(self) -> Iterator[TimedAction]:
        workers: dict[int, int] = {}
        for replica, stream, action, begin, end, thread in self.rows:
            worker = workers.setdefault(thread, len(workers))
            yield TimedAction(replica, stream, action, self._seconds(begin), self._seconds(end), worker)

    def _seconds(self, nanoseconds: int) -> float:
        return (nanoseconds - self.origin) / 1e9

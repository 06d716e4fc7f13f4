"""The `threads` back end: one CPU thread per stream, real asynchrony.

Events are numbers in rings: the thread that records one writes its index, those that wait look there first and sleep
only if they must. There is no lock around parameters; autograd and the kernels release the interpreter lock.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from queue import SimpleQueue

from asyncpipe.ir import Action, Launch, Op, Program
from asyncpipe.runtime.execution import Execution
from asyncpipe.runtime.failure import naming_the_action

__all__ = ["Hook", "run_threads"]

Hook = Callable[[int, Action], None]
"""Called with (stream, action) before an action runs: delays, race tests."""

_SWITCH_INTERVAL = 5e-4
_Wanted = tuple[list[int], int]


class _Stopped(Exception):
    """Another stream failed, or the run was interrupted."""


class _Events:
    """One ring per (op, stage): `ring[i % size] >= i` once action i has run. Nothing is ever reset.

    A ring is longer than the number of microbatches that can be in flight, so an entry that was overwritten by a
    later action still answers rightly.
    """

    def __init__(self, program: Program) -> None:
        size = 2 * (max(program.slots, default=1) + program.step + program.every) + program.start + 2
        self.rings = {(op, s): [-1] * size for op in Op for s in range(program.stages)}
        self.size = size
        self.sleepers: list[_Wanted | None] = [None] * len(program.streams)
        self.wakes: list[SimpleQueue[None]] = [SimpleQueue() for _ in program.streams]
        self.stopped = False

    def record(self, action: Action) -> None:
        """The action has run. Sleepers publish first and look again after, so none is missed."""
        ring = self.rings[action.op, action.stage]
        ring[action.index % self.size] = action.index
        for stream, wanted in enumerate(self.sleepers):
            if wanted is not None and wanted[0] is ring and wanted[1] == action.index:
                self.wakes[stream].put(None)

    def wait(self, stream: int, action: Action) -> None:
        """Returns once the action has run; raises _Stopped when the run ends before."""
        ring, index = self.rings[action.op, action.stage], action.index
        while ring[index % self.size] < index:
            self.sleepers[stream] = (ring, index)
            if ring[index % self.size] < index and not self.stopped:
                self.wakes[stream].get()
            self.sleepers[stream] = None
            if self.stopped:
                raise _Stopped

    def stop(self) -> None:
        self.stopped = True
        for wake in self.wakes:
            wake.put(None)


def run_threads(execution: Execution, hook: Hook | None = None, poll: Callable[[], None] | None = None) -> None:
    """Runs a whole program and returns when every thread has ended. The first failure wins and stops all others.

    `poll` is called in the calling thread every half second.
    """
    events = _Events(execution.program)
    failures: list[BaseException] = []

    def work(stream: int) -> None:
        try:
            _run_stream(execution, events, stream, hook)
        except _Stopped:
            pass
        except BaseException as error:
            failures.append(error)
            events.stop()

    streams = execution.program.streams
    threads = [threading.Thread(target=work, args=(i,), name=s.name, daemon=True) for i, s in enumerate(streams)]
    with _short_switch_interval():
        _start_and_join(threads, events, poll)
    if failures:
        raise failures[0]


def _start_and_join(threads: Sequence[threading.Thread], events: _Events, poll: Callable[[], None] | None) -> None:
    """Every thread that was started is joined, whatever happens in the calling thread meanwhile."""
    try:
        for thread in threads:
            thread.start()
        for thread in threads:
            while thread.is_alive():
                thread.join(0.5)
                if poll is not None:
                    poll()
    finally:
        if any(thread.is_alive() for thread in threads):
            events.stop()
        for thread in threads:
            if thread.ident is not None:
                thread.join()


def _run_stream(execution: Execution, events: _Events, stream: int, hook: Hook | None) -> None:
    name = execution.program.streams[stream].name
    launches: Iterator[Launch] = execution.program.launches(stream)
    for action, waits, record in launches:
        for source in waits:
            events.wait(stream, source)
        if events.stopped:
            raise _Stopped
        with naming_the_action(name, action):
            if hook is not None:
                hook(stream, action)
            execution.run(stream, action)
        if record:
            events.record(action)


@contextmanager
def _short_switch_interval() -> Iterator[None]:
    """A thread that comes back from a kernel should not wait 5 ms for the interpreter lock."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(min(before, _SWITCH_INTERVAL))
    try:
        yield
    finally:
        sys.setswitchinterval(before)

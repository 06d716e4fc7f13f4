"""What a program means in virtual time: the one clock that the simulator and the `serial` back end share.

Streams run their launches in order; a launch starts when its stream is free and all its events are recorded. At each
instant first everything that ends does end (updates in ascending order), then launches that cost nothing run, then
the others start. So a read at a start sees every write that ends at that instant.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator
from typing import NamedTuple

from asyncpipe.errors import InternalError
from asyncpipe.ir.action import Action, Op
from asyncpipe.ir.program import Launch, Program

__all__ = ["Event", "replay"]


class Event(NamedTuple):
    """An action starts (`ends` false) or ends at `time` ticks on a stream."""

    time: int
    stream: int
    action: Action
    ends: bool


def replay(program: Program) -> Iterator[Event]:
    """The events of a finite program in the order in which they take effect; InternalError if it deadlocks."""
    return _Clock(program).events()


class _Clock:
    def __init__(self, program: Program) -> None:
        self.program = program
        self.queues = [program.launches(i) for i in range(len(program.streams))]
        self.next: list[Launch | None] = [next(queue, None) for queue in self.queues]
        self.missing = [0] * len(self.queues)
        self.recorded: set[Action] = set()
        self.waiting: dict[Action, list[int]] = {}
        self.running: list[tuple[int, int, int, int, Action]] = []
        self.ready: list[tuple[int, int, int, int]] = []
        self.free: list[tuple[int, int, int, int]] = []

    def events(self) -> Iterator[Event]:
        now = 0
        for stream in range(len(self.queues)):
            self._arm(stream)
        while True:
            yield from self._settle(now)
            yield from self._start(now)
            if not self.running:
                break
            now = self.running[0][0]
            while self.running and self.running[0][0] == now:
                _, _, _, stream, action = heapq.heappop(self.running)
                yield Event(now, stream, action, True)
                self._finish(stream)
        stuck = [f"{self.program.streams[i].name} at {n.action}" for i, n in enumerate(self.next) if n]
        if stuck:
            raise InternalError(f"the program deadlocks: {', '.join(stuck)}")

    def _arm(self, stream: int) -> None:
        """Looks at the stream's next launch: it is ready, or it waits for events."""
        launch = self.next[stream]
        if launch is None:
            return
        waits = [action for action in launch.waits if action not in self.recorded]
        for action in waits:
            self.waiting.setdefault(action, []).append(stream)
        self.missing[stream] = len(waits)
        if not waits:
            self._ready(stream, launch.action)

    def _ready(self, stream: int, action: Action) -> None:
        program = self.program
        microbatch = action.index * program.every + program.every - 1 if action.op.by_update else action.index
        order = action.stage if action.op in (Op.F, Op.SEND_F) else program.stages - 1 - action.stage
        key = (0 if action.op.by_update else 1, microbatch, order, stream)
        heapq.heappush(self.ready if program.costs[action.op][action.stage] else self.free, key)

    def _finish(self, stream: int) -> None:
        launch = self.next[stream]
        assert launch is not None
        if launch.record:
            self.recorded.add(launch.action)
            for other in self.waiting.pop(launch.action, ()):
                self.missing[other] -= 1
                waiting = self.next[other]
                if self.missing[other] == 0 and waiting is not None:
                    self._ready(other, waiting.action)
        self.next[stream] = next(self.queues[stream], None)
        self._arm(stream)

    def _settle(self, now: int) -> Iterator[Event]:
        while self.free:
            stream = heapq.heappop(self.free)[3]
            launch = self.next[stream]
            assert launch is not None
            yield Event(now, stream, launch.action, False)
            yield Event(now, stream, launch.action, True)
            self._finish(stream)

    def _start(self, now: int) -> Iterator[Event]:
        for stream in sorted(key[3] for key in self.ready):
            launch = self.next[stream]
            assert launch is not None
            action = launch.action
            end = now + self.program.costs[action.op][action.stage]
            heapq.heappush(self.running, (end, 0 if action.op.by_update else 1, action.index, stream, action))
            yield Event(now, stream, action, False)
        self.ready.clear()

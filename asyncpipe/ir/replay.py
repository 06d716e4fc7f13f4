"""What a program means in virtual time: the one clock that the simulator and the `serial` back end share.

Streams run their launches in order; a launch starts when its stream is free and all its events are recorded. At each
instant first everything that ends does end (updates in ascending order), then launches that cost nothing run, then
the others start. So a read at a start sees every write that ends at that instant.

Replicas run the same program side by side. They meet at each SYNC, unless they push: it starts once all of them have
come to it, and ends for all.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterator
from typing import NamedTuple

from asyncpipe.errors import InternalError
from asyncpipe.ir.action import Action, Op
from asyncpipe.ir.program import Launch, Program

__all__ = ["Event", "TicksOf", "replay", "replay_replicas"]

TicksOf = Callable[[int, int, Action], int]
"""Ticks that belong to an action of (replica, stream)."""


class Event(NamedTuple):
    """An action starts (`ends` false) or ends at `time` ticks on a stream."""

    time: int
    stream: int
    action: Action
    ends: bool


def replay(program: Program) -> Iterator[Event]:
    """The events of a finite program in the order in which they take effect; InternalError if it deadlocks."""
    return (event for _, event in _Clock(program, 1, None, None).events())


def replay_replicas(
    program: Program, hold: TicksOf | None = None, cost: TicksOf | None = None
) -> Iterator[tuple[int, Event]]:
    """(replica, event) of all replicas of the program.

    `hold`: for how long a stream stands still before an action that could start; asked once for each action, then.
    `cost`: how long an action takes; default: the program's costs.
    """
    return _Clock(program, program.replicas, hold, cost).events()


_HELD = 2
"""Beside updates (0) and other actions (1) that end: a stream has stood still for long enough."""


class _Clock:
    """Streams are numbered through all replicas: stream i of replica r is r * streams + i."""

    def __init__(self, program: Program, replicas: int, hold: TicksOf | None, cost: TicksOf | None) -> None:
        self.program = program
        self.replicas = replicas
        self.streams = len(program.streams)
        self.hold = hold
        self.cost = cost
        self.now = 0
        self.meets = replicas > 1 and program.sync[:1] != ("push",)
        self.arrived: dict[Action, list[int]] = {}
        self.queues = [program.launches(i) for _ in range(replicas) for i in range(self.streams)]
        self.next: list[Launch | None] = [next(queue, None) for queue in self.queues]
        self.missing = [0] * len(self.queues)
        self.recorded: list[set[Action]] = [set() for _ in range(replicas)]
        self.waiting: list[dict[Action, list[int]]] = [{} for _ in range(replicas)]
        self.running: list[tuple[int, int, int, int, Action]] = []
        self.ready: list[tuple[int, int, int, int]] = []
        self.free: list[tuple[int, int, int, int]] = []

    def events(self) -> Iterator[tuple[int, Event]]:
        for stream in range(len(self.queues)):
            self._arm(stream)
        while True:
            yield from self._settle(self.now)
            yield from self._start(self.now)
            if not self.running:
                break
            now = self.now = self.running[0][0]
            while self.running and self.running[0][0] == now:
                _, kind, _, stream, action = heapq.heappop(self.running)
                if kind == _HELD:
                    self._enqueue(stream, action)
                    continue
                yield self._event(now, stream, action, True)
                self._finish(stream)
        names = [stream.name for stream in self.program.streams]
        stuck = [f"{names[i % self.streams]} at {n.action}" for i, n in enumerate(self.next) if n]
        if stuck:
            raise InternalError(f"the program deadlocks: {', '.join(stuck)}")

    def _event(self, now: int, stream: int, action: Action, ends: bool) -> tuple[int, Event]:
        replica, own = divmod(stream, self.streams)
        return replica, Event(now, own, action, ends)

    def _cost(self, stream: int, action: Action) -> int:
        if self.cost is not None:
            return self.cost(*divmod(stream, self.streams), action)
        return self.program.costs[action.op][action.stage]

    def _arm(self, stream: int) -> None:
        """Looks at the stream's next launch: it is ready, or it waits for events."""
        launch = self.next[stream]
        if launch is None:
            return
        replica = stream // self.streams
        recorded, waiting = self.recorded[replica], self.waiting[replica]
        waits = [action for action in launch.waits if action not in recorded]
        for action in waits:
            waiting.setdefault(action, []).append(stream)
        self.missing[stream] = len(waits)
        if not waits:
            self._ready(stream, launch.action)

    def _ready(self, stream: int, action: Action) -> None:
        held = 0 if self.hold is None else self.hold(*divmod(stream, self.streams), action)
        if held:
            heapq.heappush(self.running, (self.now + held, _HELD, action.index, stream, action))
        else:
            self._enqueue(stream, action)

    def _enqueue(self, stream: int, action: Action) -> None:
        program = self.program
        microbatch = action.index * program.every + program.every - 1 if action.op.by_update else action.index
        order = action.stage if action.op in (Op.F, Op.SEND_F) else program.stages - 1 - action.stage
        key = (0 if action.op.by_update else 1, microbatch, order, stream)
        heapq.heappush(self.ready if self._cost(stream, action) else self.free, key)

    def _finish(self, stream: int) -> None:
        launch = self.next[stream]
        assert launch is not None
        if launch.record:
            replica = stream // self.streams
            self.recorded[replica].add(launch.action)
            for other in self.waiting[replica].pop(launch.action, ()):
                self.missing[other] -= 1
                waiting = self.next[other]
                if self.missing[other] == 0 and waiting is not None:
                    self._ready(other, waiting.action)
        self.next[stream] = next(self.queues[stream], None)
        self._arm(stream)

    def _settle(self, now: int) -> Iterator[tuple[int, Event]]:
        while self.free:
            stream = heapq.heappop(self.free)[3]
            launch = self.next[stream]
            assert launch is not None
            together = self._meet(stream, launch.action)
            for other in together:
                yield self._event(now, other, launch.action, False)
            for other in together:
                yield self._event(now, other, launch.action, True)
                self._finish(other)

    def _start(self, now: int) -> Iterator[tuple[int, Event]]:
        for stream in sorted(key[3] for key in self.ready):
            launch = self.next[stream]
            assert launch is not None
            action = launch.action
            together = self._meet(stream, action)
            end = now + max((self._cost(other, action) for other in together), default=0)
            for other in together:
                heapq.heappush(self.running, (end, 0 if action.op.by_update else 1, action.index, other, action))
                yield self._event(now, other, action, False)
        self.ready.clear()

    def _meet(self, stream: int, action: Action) -> list[int]:
        """The streams that start `action` now: its own, or for a SYNC none until the last replica is there."""
        if action.op is not Op.SYNC or not self.meets:
            return [stream]
        arrived = self.arrived.setdefault(action, [])
        arrived.append(stream)
        return sorted(self.arrived.pop(action)) if len(arrived) == self.replicas else []

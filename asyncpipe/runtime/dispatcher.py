"""What runs next: the events and stream orders of a program, handed out to worker threads, one for each core.

A stream is an order, not a thread: its launches run one after another, each once its events are recorded, on whichever
worker is free. Updates and backwards go before forwards, earlier microbatches before later ones; so a backward tends
to run on the core, and with the allocator arena, that its forward filled. The lock here is around this bookkeeping
only; parameters have none.
"""

from __future__ import annotations

import heapq
import threading
from queue import SimpleQueue

from asyncpipe.ir import TRANSFERS, Action, Launch, Op, Program

__all__ = ["Dispatcher", "Work"]

_RANK = {**dict.fromkeys(TRANSFERS, 0), Op.SYNC: 0, Op.U: 0, Op.B: 1, Op.I: 1, Op.R: 1, Op.W: 2, Op.F: 3}
Work = tuple[int, Action]
"""A stream and its action. Streams count through all replicas: stream i of replica r is r * streams + i."""


class Dispatcher:
    """Hands out the launches of one run to `workers` threads. `take` and `finish` are called by those threads.

    A SYNC at which replicas meet is handed out once, for all of them, when the last has come to it.
    """

    def __init__(self, program: Program, workers: int) -> None:
        self._streams = len(program.streams)
        count = self._streams * program.replicas
        self._every = program.every
        self._replicas = program.replicas
        self._meets = program.replicas > 1 and program.sync[:1] != ("push",)
        self._arrived: dict[Action, list[int]] = {}
        self._launches = [program.launches(stream % self._streams) for stream in range(count)]
        self._next: list[Launch | None] = [None] * count
        self._missing = [0] * count
        self._waiting: list[dict[Action, list[int]]] = [{} for _ in range(program.replicas)]
        self._events = [_Events(program) for _ in range(program.replicas)]
        self._ready: list[tuple[int, int, int, int]] = []
        self._idle: list[int] = []
        self._turns: list[SimpleQueue[None]] = [SimpleQueue() for _ in range(workers)]
        self._lock = threading.Lock()
        self._unfinished = count
        self._stopped = False
        self._stop = threading.Event()
        for stream in range(count):
            self._advance(stream)

    def take(self, worker: int) -> Work | None:
        """The most urgent launch, once there is one; None when the run has ended or was stopped."""
        while True:
            with self._lock:
                if self._stopped or not self._unfinished:
                    return None
                if self._ready:
                    return self._pop()
                self._idle.append(worker)
            self._turns[worker].get()

    def finish(self, work: Work) -> Work | None:
        """The launch has run: its event is recorded. The next launch for the same worker, if one is ready at once."""
        stream, action = work
        with self._lock:
            for together in self._arrived.pop(action, [stream]) if action.op is Op.SYNC else [stream]:
                done = self._next[together]
                assert done is not None
                if done.record:
                    self._record(together // self._streams, action)
                self._advance(together)
            if self._stopped or not self._unfinished:
                self._wake(len(self._idle))
                return None
            mine = self._pop() if self._ready else None
            self._wake(len(self._ready))
        return mine

    def stop(self) -> None:
        """Nothing is handed out any more; every waiting worker goes home."""
        self._stop.set()
        with self._lock:
            self._stopped = True
            self._wake(len(self._idle))

    def pause(self, seconds: float) -> bool:
        """Sleeps; whether the run still goes on after that."""
        return not (self._stop.wait(seconds) if seconds > 0 else self._stopped)

    def _pop(self) -> Work:
        stream = heapq.heappop(self._ready)[3]
        launch = self._next[stream]
        assert launch is not None
        return stream, launch.action

    def _wake(self, count: int) -> None:
        """Calls as many idle workers as there is work for; each looks for itself what is left."""
        for worker in self._idle[:count]:
            self._turns[worker].put(None)
        del self._idle[:count]

    def _advance(self, stream: int) -> None:
        launch = self._next[stream] = next(self._launches[stream], None)
        if launch is None:
            self._unfinished -= 1
            return
        replica = stream // self._streams
        waits = [source for source in launch.waits if not self._events[replica].is_recorded(source)]
        for source in waits:
            self._waiting[replica].setdefault(source, []).append(stream)
        self._missing[stream] = len(waits)
        if not waits:
            self._enqueue(stream, launch.action)

    def _record(self, replica: int, action: Action) -> None:
        self._events[replica].record(action)
        for stream in self._waiting[replica].pop(action, ()):
            self._missing[stream] -= 1
            launch = self._next[stream]
            if self._missing[stream] == 0 and launch is not None:
                self._enqueue(stream, launch.action)

    def _enqueue(self, stream: int, action: Action) -> None:
        if action.op is Op.SYNC and self._meets:
            arrived = self._arrived.setdefault(action, [])
            arrived.append(stream)
            if len(arrived) < self._replicas:
                return
        microbatch = action.index * self._every if action.op.by_update else action.index
        heapq.heappush(self._ready, (_RANK[action.op], microbatch, action.stage, stream))


class _Events:
    """One ring per (op, stage): `ring[i % size] >= i` once action i has run. Nothing is ever reset.

    A ring is longer than the number of microbatches that can be in flight, so an entry that was overwritten by a
    later action still answers rightly.
    """

    def __init__(self, program: Program) -> None:
        self.size = 2 * (max(program.slots, default=1) + program.step + program.every) + program.start + 2
        self.rings = {(op, s): [-1] * self.size for op in Op for s in range(program.stages)}

    def record(self, action: Action) -> None:
        self.rings[action.op, action.stage][action.index % self.size] = action.index

    def is_recorded(self, action: Action) -> bool:
        return self.rings[action.op, action.stage][action.index % self.size] >= action.index

"""The issuing thread: walks a program and makes one call of the runtime for each of its lines."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Protocol

from torch import Tensor

from asyncpipe.errors import InternalError
from asyncpipe.ir import TRANSFERS, Action, Instruction, Kind, Op, Program
from asyncpipe.runtime.cuda.api import Cuda, Event, Stream
from asyncpipe.runtime.cuda.crossings import Crossings
from asyncpipe.runtime.cuda.device_streams import DeviceStreams
from asyncpipe.runtime.cuda.references import References, storage_of
from asyncpipe.runtime.cuda.stamps import Timing, unstamped
from asyncpipe.runtime.cuda.timeline import Timeline
from asyncpipe.runtime.failure import naming_the_action

__all__ = ["Issuer", "Work"]

Before = Callable[[int, Action], None]


class Work(Protocol):
    """What actions do: the executions of all replicas, on a device."""

    @property
    def meets(self) -> bool:
        """Whether a SYNC takes all replicas at once."""

    @property
    def chains_updates(self) -> bool:
        """Whether updates of one stage share more than parameters, and follow one another whatever the program says."""

    @property
    def traces(self) -> int:
        """How often a stage has been traced; a trace leaves constants on the stream of its launch, for all streams."""

    def run(self, replica: int, stream: int, action: Action) -> None:
        """Launches all kernels of an action on the current stream; of a SYNC that meets, for all replicas."""

    def held(self, replica: int, action: Action) -> Iterable[Tensor]:
        """The tensors that the state has for the action: those it reads before it ran, those it made after."""


class Issuer:
    """One for each run, or for each capture: events of a capture mean nothing outside it.

    Replicas take turns at every line. crossings: what graphs of several devices wait for among themselves. timing:
    around what each action launches.
    """

    def __init__(
        self,
        cuda: Cuda,
        program: Program,
        streams: DeviceStreams,
        work: Work,
        crossings: Crossings | None = None,
        timing: Timing = unstamped,
    ) -> None:
        self.cuda = cuda
        self.program = program
        self.streams = streams.all
        self._landings = streams.landings
        self._crossings = crossings
        self._timing = timing
        self.work = work
        self._timelines = [Timeline(number) for number in range(len(streams.all))]
        self.references = References(self._timelines)
        self._events = [_EventRing(cuda, program) for _ in range(program.replicas)]
        self._last_updates: dict[tuple[int, int], int] = {}
        self._users: dict[tuple[int, int, int], list[tuple[int, int]]] = {}
        """By replica, stage and slot, the calls that used it for its microbatch."""

    def issue(self, instructions: Iterable[Instruction], before: Before | None = None) -> None:
        """`before` is called with (stream, action) ahead of each launch."""
        for kind, stream, action in instructions:
            if kind is Kind.LAUNCH and action.op is Op.SYNC and self.work.meets:
                self._launch_together(stream, action, before)
                continue
            for replica in range(self.program.replicas):
                if kind is Kind.LAUNCH:
                    self._launch(replica, stream, action, before)
                elif kind is Kind.RECORD:
                    self._record(replica, stream, action)
                else:
                    self._wait(replica, stream, action)

    def _record(self, replica: int, stream: int, action: Action) -> None:
        at = self._number(replica, stream)
        self._events[replica].record(action, self.streams[at], self._timelines[at])
        if self._crossings is not None:
            self._crossings.record(replica, action, self.streams[at], self._timelines[at])

    def _wait(self, replica: int, stream: int, action: Action) -> None:
        at = self._number(replica, stream)
        timeline, crossings = self._timelines[at], self._crossings
        if crossings is None or not crossings.wait(replica, stream, action, self.streams[at], timeline):
            self._events[replica].wait(action, self.streams[at], timeline)
        self.references.release(at)

    def _number(self, replica: int, stream: int) -> int:
        return replica * len(self.program.streams) + stream

    def _launch(self, replica: int, stream: int, action: Action, before: Before | None) -> None:
        at = self._number(replica, stream)
        if action.op in TRANSFERS:
            self._send(at, replica, stream, action, before)
            return
        if action.op is Op.U and self.work.chains_updates:
            last = self._last_updates.get((replica, action.stage), at)
            if last != at:
                self._meet([last], [at])
            self._last_updates[replica, action.stage] = at
        self._run(at, replica, stream, action, [replica], before, at)
        if not action.op.by_update:
            self._use_slot(at, replica, action)

    def _send(self, at: int, replica: int, stream: int, action: Action, before: Before | None) -> None:
        """A transfer waits for what its landing did, and the landing for the transfer."""
        landing = self._landings.get(at, at)
        self._timelines[at].join(self._timelines[landing].clock)
        self._run(at, replica, stream, action, [replica], before, landing)
        self._timelines[landing].join(self._timelines[at].clock)
        self.references.release(landing)

    def _use_slot(self, at: int, replica: int, action: Action) -> None:
        """InternalError where a forward takes a slot that others may still read."""
        place = replica, action.stage, action.index % self.program.slots[action.stage]
        timeline = self._timelines[at]
        if action.op is Op.F:
            early = [user for user in self._users.get(place, ()) if not timeline.covers(*user)]
            if early:
                raise InternalError(f"{action} takes a slot without waiting for its reader on stream {early[0][0]}")
            self._users[place] = []
        self._users.setdefault(place, []).append((at, timeline.position))

    def _launch_together(self, stream: int, action: Action, before: Before | None) -> None:
        """The last replica's stream does it for all, after all of them and before they go on."""
        *others, last = (self._number(replica, stream) for replica in range(self.program.replicas))
        self._meet(others, [last])
        everyone = range(self.program.replicas)
        self._run(last, self.program.replicas - 1, stream, action, everyone, before, last)
        self._meet([last], others)

    def _run(
        self,
        at: int,
        replica: int,
        stream: int,
        action: Action,
        replicas: Iterable[int],
        before: Before | None,
        home: int,
    ) -> None:
        """`home`: the stream that the action allocates on."""
        if before is not None:
            before(at, action)
        replicas = list(replicas)
        read = [tensor for one in replicas for tensor in self.work.held(one, action)]
        known = {storage_of(tensor) for tensor in read}
        traces = self.work.traces
        name = self.program.streams[stream].name
        with (
            self.cuda.on(self.streams[at]),
            naming_the_action(name, action),
            self._timing(replica, stream, action),
            self._order_among(replica, action),
        ):
            self.work.run(replica, stream, action)
        self._timelines[at].advance()
        found = (tensor for one in replicas for tensor in self.work.held(one, action))
        self.references.made((tensor for tensor in found if storage_of(tensor) not in known), home)
        self.references.read(read, at)
        if self.work.traces != traces:
            self._meet([at], [other for other in range(len(self.streams)) if other != at])

    def _order_among(self, replica: int, action: Action) -> AbstractContextManager[None]:
        """Updates of one stage may overlap where the schedule does not order them."""
        if action.op is not Op.U or self.program.write == "ordered":
            return nullcontext()
        return self.cuda.unordered(f"updates of stage {action.stage} of replica {replica}")

    def plan(self, replica: int, stream: int, action: Action, waits: Iterable[Action]) -> None:
        """A transfer that each launch of a period makes: what it moves has moved from here on."""
        at, crossings = self._number(replica, stream), self._crossings
        assert crossings is not None
        for wait in waits:
            crossings.follow(replica, wait, self._timelines[at])
        self.work.run(replica, stream, action)
        self._timelines[at].advance()
        crossings.stand_for(replica, action, self._timelines[at])

    def fork(self, joined: bool = False, among: Sequence[int] = ()) -> None:
        """Every stream, or those of `among`, comes after what was issued on the first; in a capture they take part.

        joined: that is all that the program had before, whoever issued it.
        """
        first, *others = among or range(len(self.streams))
        self._meet([first], others)
        for ring in self._events:
            ring.forget(joined)

    def join(self, among: Sequence[int] = ()) -> None:
        """The first comes after all that was issued."""
        first, *others = among or range(len(self.streams))
        self._meet(others, [first])

    def follow(self, target: int, sources: Iterable[int]) -> None:
        """What comes next on `target` comes after all that was issued on the others, by events of somebody else."""
        for source in sources:
            self._timelines[target].join(self._timelines[source].clock)
        self.references.release(target)

    def _meet(self, sources: Sequence[int], targets: Sequence[int]) -> None:
        for source in sources:
            event = self.cuda.event()
            self.cuda.record(event, self.streams[source])
            for target in targets:
                self.cuda.wait(self.streams[target], event)
                self._timelines[target].join(self._timelines[source].snapshot())
        for target in targets:
            self.references.release(target)


class _EventRing:
    """Events by the action that records them. A wait means the last record before it, so that a ring may be short.

    After `forget` a wait for an action that this ring has not seen since is for one from before, and holds already.
    """

    def __init__(self, cuda: Cuda, program: Program) -> None:
        self._cuda = cuda
        self._size = 2 * (max(program.slots, default=1) + program.step + program.every) + program.start + 2
        self._events: dict[tuple[Op, int, int, Stream], Event] = {}
        self._records: dict[Action, tuple[Event, dict[int, int]]] = {}
        self._joined = False

    def forget(self, joined: bool) -> None:
        self._joined = joined
        self._records.clear()

    def record(self, action: Action, stream: Stream, timeline: Timeline) -> None:
        # An event belongs to one device, and an action may change streams from microbatch to microbatch.
        place = action.op, action.stage, action.index % self._size, stream
        if place not in self._events:
            self._events[place] = self._cuda.event()
        event = self._events[place]
        self._cuda.record(event, stream)
        self._records.pop(action._replace(index=action.index - self._size), None)
        self._records[action] = event, timeline.snapshot()

    def wait(self, action: Action, stream: Stream, timeline: Timeline) -> None:
        if action in self._records:
            event, clock = self._records[action]
            self._cuda.wait(stream, event)
            timeline.join(clock)
        elif not self._joined:
            raise InternalError(f"the program waits for {action}, whose event was not recorded")

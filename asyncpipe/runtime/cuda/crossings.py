"""Events between the graphs of a period, and between graphs and transfers."""

from __future__ import annotations

from dataclasses import dataclass, field

from asyncpipe.errors import InternalError
from asyncpipe.ir import Action
from asyncpipe.runtime.cuda.api import Cuda, Event, Stream
from asyncpipe.runtime.cuda.segments import Plan
from asyncpipe.runtime.cuda.timeline import Timeline

__all__ = ["Crossings"]


@dataclass
class Crossings:
    """External events, by replica and action: a record or wait in a capture becomes a node, and outside it is plain.

    One event serves all launches: a node waits for the last record issued before its launch, which is that of the same
    period, and a later record does not change what it waits for.
    """

    cuda: Cuda
    plan: Plan
    replicas: int
    _events: dict[tuple[int, Action], Event] = field(init=False)
    _clocks: dict[tuple[int, Action], dict[int, int]] = field(init=False, default_factory=dict)

    def __post_init__(self) -> None:
        keys = [(replica, action) for replica in range(self.replicas) for action in sorted(self.plan.crossing)]
        self._events = {key: self.cuda.event(external=True) for key in keys}

    def event(self, replica: int, action: Action) -> Event:
        return self._events[replica, action]

    def record(self, replica: int, action: Action, stream: Stream, timeline: Timeline) -> None:
        """For the waits of others, if there are any."""
        if (replica, action) in self._events:
            self.cuda.record(self._events[replica, action], stream)
            self._clocks[replica, action] = timeline.snapshot()

    def wait(self, replica: int, number: int, action: Action, stream: Stream, timeline: Timeline) -> bool:
        """False where the wait of stream `number` of the program is none of these."""
        if (number, action) not in self.plan.remote:
            return False
        self.cuda.wait(stream, self._events[replica, action])
        self.follow(replica, action, timeline)
        return True

    def follow(self, replica: int, action: Action, timeline: Timeline) -> None:
        """What comes next there comes after the action. InternalError where that is captured later."""
        if (replica, action) not in self._clocks:
            raise InternalError(f"a period waits for {action} before it launches it")
        timeline.join(self._clocks[replica, action])

    def stand_for(self, replica: int, action: Action, timeline: Timeline) -> None:
        """The action was planned, and each launch will record its event."""
        self._clocks[replica, action] = timeline.snapshot()

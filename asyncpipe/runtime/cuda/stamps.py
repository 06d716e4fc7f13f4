"""Time stamps before and after each action, launched on its stream: the host would time their issue only."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from functools import partial
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from asyncpipe.errors import InternalError
from asyncpipe.ir import Action, Instruction, Kind, Program
from asyncpipe.kernels.stamps.rows import Stamp, StampRows
from asyncpipe.runtime.cuda.api import Cuda, Event, Stream
from asyncpipe.runtime.cuda.device_streams import DeviceStreams

__all__ = ["EagerStamps", "PeriodStamps", "StampRing", "Stamped", "Stamps", "Timing", "unstamped"]

_ACTIONS = 256
"""Of one stream, whose stamps go to the host at once."""
_LAUNCHES = 8
"""Of a graph, the same: a copy of some 10 kB each time would be one more call between any two launches."""

Timing = Callable[[int, int, Action], AbstractContextManager[None]]
"""Of (replica, stream, action): what is launched within it, on the current stream, is timed."""


def unstamped(replica: int, stream: int, action: Action) -> AbstractContextManager[None]:
    return nullcontext()


class Stamped(NamedTuple):
    """An action, and the number of the stream that did it."""

    replica: int
    stream: int
    action: Action
    at: int


class Stamps(Protocol):
    """Takes what has arrived at the host."""

    def arrived(self, stamped: Stamped, first: Stamp, last: Stamp) -> None:
        """The stamps before and after."""


@dataclass(frozen=True)
class _Turn:
    """One launch: its number, what was stamped, and for whom."""

    number: int
    named: Callable[[], Sequence[Stamped]]
    stamps: Stamps


@dataclass(frozen=True)
class _Sent:
    turns: Sequence[_Turn]
    host: Tensor
    copied: Event


@dataclass
class StampRing:
    """Stamps of up to `actions` actions in each launch, sent to the host after every `launches` of them.

    stream: comes after all stamps of a launch, and before those of the next one. Rows are written again after they were
    copied, in the order of that stream; each says which launch wrote it.
    """

    cuda: Cuda
    stream: Stream
    device: torch.device
    actions: int
    launches: int
    _turns: list[_Turn] = field(init=False, default_factory=list)
    _sent: deque[_Sent] = field(init=False, default_factory=deque)
    _number: int = field(init=False, default=0)

    def __post_init__(self) -> None:
        with self.cuda.on(self.stream):
            self.rows = StampRows(2 * self.actions, self.launches, self.device)
        # Each row has a writer of its own, on whatever stream.
        self.cuda.share([self.rows.values], "the time stamps")

    @contextmanager
    def around(self, number: int) -> Iterator[None]:
        """Times what is launched on the current stream, as action `number` of a launch."""
        self.rows.stamp(2 * number)
        yield
        self.rows.stamp(2 * number + 1)

    def turn(self, named: Callable[[], Sequence[Stamped]], stamps: Stamps) -> None:
        """A launch has been issued. named: its actions by number, asked for when the host has the rows."""
        with self.cuda.on(self.stream):
            self.rows.launch.add_(1)
        self._turns.append(_Turn(self._number, named, stamps))
        self._number += 1
        if len(self._turns) == self.launches:
            self.send()

    def send(self) -> None:
        """What was stamped since the last time sets out to the host."""
        if not self._turns:
            return
        with self.cuda.on(self.stream):
            host = self.cuda.pinned(self.rows.values)
            host.copy_(self.rows.values, non_blocking=True)
        copied = self.cuda.event()
        self.cuda.record(copied, self.stream)
        self._sent.append(_Sent(self._turns, host, copied))
        self._turns = []

    def read(self, left: int = 0) -> None:
        """Waits for all that was sent but the last `left` times."""
        while len(self._sent) > left:
            sent = self._sent.popleft()
            self.cuda.synchronize(sent.copied)
            numbers = [int(number) for number in self.cuda.on_host(sent.host)]
            for turn in sent.turns:
                self._deliver(turn, numbers)

    def _deliver(self, turn: _Turn, numbers: list[int]) -> None:
        for number, stamped in enumerate(turn.named()):
            first, last = (self.rows.read(numbers, turn.number, slot) for slot in (2 * number, 2 * number + 1))
            found = {first.launch, last.launch} - {turn.number}
            if found:
                raise InternalError(
                    f"time stamps of {stamped.action}: expected those of launch {turn.number}, found those of {found}"
                )
            turn.stamps.arrived(stamped, first, last)


class EagerStamps:
    """Of all that is issued outside captures: a ring for each stream, which the host reads two rings late."""

    def __init__(self, cuda: Cuda, program: Program, streams: DeviceStreams, stamps: Stamps) -> None:
        self._cuda = cuda
        self._count = len(program.streams)
        self._streams = streams
        self._stamps = stamps
        self._rings: dict[int, StampRing] = {}
        self._open: dict[int, list[Stamped]] = {}

    @contextmanager
    def timing(self, replica: int, stream: int, action: Action) -> Iterator[None]:
        at = replica * self._count + stream
        if at not in self._rings:
            device = self._cuda.torch_device(self._streams.devices[at])
            self._rings[at] = StampRing(self._cuda, self._streams.all[at], device, _ACTIONS, 1)
            self._open[at] = []
        with self._rings[at].around(len(self._open[at])):
            yield
        self._open[at].append(Stamped(replica, stream, action, at))
        if len(self._open[at]) == _ACTIONS:
            self._turn(at)
            self._rings[at].read(left=2)

    def _turn(self, at: int) -> None:
        stamped, self._open[at] = self._open[at], []
        self._rings[at].turn(lambda: stamped, self._stamps)

    def finish(self) -> None:
        """Waits for all of them."""
        for at, ring in self._rings.items():
            if self._open[at]:
                self._turn(at)
            ring.read()


class PeriodStamps:
    """Of a captured period, whose stamps are nodes: a ring for each device."""

    def __init__(self, cuda: Cuda, program: Program, streams: DeviceStreams, lines: Sequence[Instruction]) -> None:
        """`lines`: of the period."""
        self._program = program
        self._streams = streams
        launching = [streams.devices[line.stream] for line in lines if line.kind is Kind.LAUNCH]
        self._rings = {
            device: StampRing(
                cuda,
                streams.all[streams.first_on(device)],
                cuda.torch_device(device),
                program.replicas * launching.count(device),
                _LAUNCHES,
            )
            for device in streams.used
            if device in launching
        }
        self._stamped: dict[int, list[Stamped]] = {device: [] for device in self._rings}

    def timing(self, replica: int, stream: int, action: Action) -> AbstractContextManager[None]:
        """In the capture: nodes before and after what is launched within."""
        return self.place(replica, stream, action)()

    def place(self, replica: int, stream: int, action: Action) -> Callable[[], AbstractContextManager[None]]:
        """The same for what each launch of the period issues anew."""
        at = replica * len(self._program.streams) + stream
        device = self._streams.devices[at]
        self._stamped[device].append(Stamped(replica, stream, action, at))
        return partial(self._rings[device].around, len(self._stamped[device]) - 1)

    def turn(self, shift: int, stamps: Stamps) -> None:
        """After a launch of the period `shift` microbatches after the captured one."""
        for device, ring in self._rings.items():
            ring.turn(partial(self._shifted, device, shift), stamps)
            ring.read(left=1)

    def _shifted(self, device: int, shift: int) -> list[Stamped]:
        every = self._program.every
        return [one._replace(action=one.action.later(shift, every)) for one in self._stamped[device]]

    def finish(self) -> None:
        """Waits for all launches so far."""
        for ring in self._rings.values():
            ring.send()
            ring.read()

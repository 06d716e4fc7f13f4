"""The `streams` back end: the program issued eagerly by one thread, on CUDA streams with events."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial

from torch import Tensor

from asyncpipe.ir import Action, Op
from asyncpipe.runtime.cuda.api import Cuda
from asyncpipe.runtime.cuda.device_streams import Crossing, DeviceStreams
from asyncpipe.runtime.cuda.device_timeline import DeviceTimeline
from asyncpipe.runtime.cuda.execution import DeviceExecution
from asyncpipe.runtime.cuda.issuer import Issuer
from asyncpipe.runtime.cuda.losses import LossChunks
from asyncpipe.runtime.cuda.stamps import EagerStamps, unstamped
from asyncpipe.runtime.replicas import ReplicaGroup

__all__ = ["GroupWork", "StreamLosses", "before_each", "crossing", "device_execution", "now_and_then", "run_streams"]

_POLL_SECONDS = 0.5


@dataclass(frozen=True)
class GroupWork:
    """The actions of a group of replicas whose executions are `DeviceExecution`s."""

    group: ReplicaGroup

    @property
    def meets(self) -> bool:
        return self.group.synchroniser is not None and self.group.synchroniser.meets

    @property
    def chains_updates(self) -> bool:
        return not all(updates.concurrent for execution in self.group.executions for updates in execution.updates)

    @property
    def traces(self) -> int:
        return sum(execution.traces for execution in map(partial(device_execution, self.group), self._replicas))

    @property
    def _replicas(self) -> range:
        return range(len(self.group.executions))

    def run(self, replica: int, stream: int, action: Action) -> None:
        self.group.run_at_once(replica, stream, action)

    def held(self, replica: int, action: Action) -> Iterable[Tensor]:
        return device_execution(self.group, replica).held(action)


class StreamLosses:
    """One collector for each stream that has the losses of a replica."""

    def __init__(self, cuda: Cuda, streams: DeviceStreams, execution: DeviceExecution, replica: int) -> None:
        first = replica * len(execution.program.streams)
        runs = [Op.F in stream.runs for stream in execution.program.streams]
        self._of = {
            number: LossChunks(cuda, streams.all[first + number], execution.arrived)
            for number, forwards in enumerate(runs)
            if forwards
        }

    def store(self, stream: int, microbatch: int, loss: Tensor) -> None:
        self._of[stream].store(microbatch, loss)

    def finish(self) -> None:
        for chunks in self._of.values():
            chunks.finish()


def run_streams(
    cuda: Cuda,
    streams: DeviceStreams,
    group: ReplicaGroup,
    hook: Callable[[int, Action], None] | None = None,
    poll: Callable[[], None] | None = None,
    timeline: DeviceTimeline | None = None,
) -> None:
    """Runs a whole program and waits for its end. `streams`: those of `make_streams`."""
    losses = []
    for replica in range(len(group.executions)):
        execution = device_execution(group, replica)
        losses.append(StreamLosses(cuda, streams, execution, replica))
        execution.sink = losses[-1]
        execution.crossing = crossing(cuda, streams, group, replica)
    stamps = None if timeline is None else EagerStamps(cuda, group.program, streams, timeline)
    timing = unstamped if stamps is None else stamps.timing
    issuer = Issuer(cuda, group.program, streams, GroupWork(group), timing=timing)
    issuer.fork()
    issuer.issue(group.program.instructions(), before_each(hook, poll))
    issuer.join()
    for sink in losses:
        sink.finish()
    if stamps is not None:
        stamps.finish()
    ended = cuda.event()
    cuda.record(ended, streams.all[0])
    cuda.synchronize(ended)


def crossing(cuda: Cuda, streams: DeviceStreams, group: ReplicaGroup, replica: int) -> Crossing | None:
    """None where there is nowhere to cross to."""
    return Crossing(cuda, streams, replica * len(group.program.streams)) if streams.landings else None


def before_each(
    hook: Callable[[int, Action], None] | None, poll: Callable[[], None] | None
) -> Callable[[int, Action], None]:
    polling = now_and_then(poll)

    def before(stream: int, action: Action) -> None:
        if hook is not None:
            hook(stream, action)
        polling()

    return before


def now_and_then(poll: Callable[[], None] | None) -> Callable[[], None]:
    """Calls `poll` where the last time is half a second ago."""
    polled = time.monotonic()

    def polling() -> None:
        nonlocal polled
        if poll is not None and time.monotonic() - polled >= _POLL_SECONDS:
            polled = time.monotonic()
            poll()

    return polling


def device_execution(group: ReplicaGroup, replica: int) -> DeviceExecution:
    execution = group.executions[replica]
    assert isinstance(execution, DeviceExecution)
    return execution

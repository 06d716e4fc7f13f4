"""One captured period: some iterations of a program's body, from a state to the same state later."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

from torch import Tensor

from asyncpipe.kernels.fused.issuing import CapturedAddresses
from asyncpipe.runtime.cuda.api import Event, Graph, Stream
from asyncpipe.runtime.cuda.carry import Carried
from asyncpipe.runtime.cuda.execution import DeviceExecution, Origin
from asyncpipe.runtime.cuda.places import Places, Rates, Site
from asyncpipe.runtime.cuda.stamps import PeriodStamps
from asyncpipe.runtime.execution import Lag

__all__ = ["Launch", "Period", "Transfer", "meet_devices", "receive_on"]


@dataclass(frozen=True)
class Transfer:
    """What one SEND moves in each period, after the events `waits`: (tensor of a graph, its place over there).

    stream, landing: their numbers. done: its own event. timed: what is issued within it is timed.
    """

    stream: int
    landing: int
    moves: Sequence[tuple[Tensor, Tensor]]
    waits: Sequence[Event]
    done: Event
    timed: Callable[[], AbstractContextManager[None]] = nullcontext

    def issue(self, site: Site) -> None:
        stream, landing = site.streams.all[self.stream], site.streams.all[self.landing]
        for event in self.waits:
            site.cuda.wait(stream, event)
        with site.cuda.on(stream), self.timed():
            for source, place in self.moves:
                site.cuda.transfer(place, source, stream, landing)
        site.cuda.record(self.done, stream)


@dataclass(frozen=True)
class Launch:
    """A graph of one device, and the events that its launch waits for.

    The last one of a device waits for transfers: of what it overwrites, and of what the next period begins with.
    """

    device: int
    graph: Graph
    waits: Sequence[Event]

    def issue(self, site: Site) -> None:
        launching = site.launching(self.device)
        for event in self.waits:
            site.cuda.wait(launching, event)
        site.cuda.launch(self.graph, launching)


@dataclass(frozen=True)
class Period:
    """What is issued for a period, in this order, and the fixed places that it reads and writes.

    `entry`: by replica, the state before and after. leaving: the captured tensors that are copied to `entry` in the
    end; they belong to the graphs. updates: by stage and stream. lags: by replica, (stage, microbatch, lag) as the
    capture counted them. addresses: of gradients; the graphs know these tables by address only. stamps: where the
    period is timed.
    """

    steps: Sequence[Launch | Transfer]
    origin: Origin
    iterations: int
    entry: Sequence[Carried]
    leaving: Sequence[Carried]
    places: Sequence[Places]
    rates: Rates
    updates: Sequence[Sequence[int]]
    lags: Sequence[Sequence[tuple[int, int, Lag]]]
    addresses: Sequence[CapturedAddresses] = ()
    stamps: PeriodStamps | None = None

    @property
    def graphs(self) -> list[Graph]:
        return [step.graph for step in self.steps if isinstance(step, Launch)]

    def takes(self, executions: Sequence[DeviceExecution], origin: Origin) -> bool:
        """Whether a state has all that the period begins with; soon after a start some slots are still empty."""
        states = (Carried.of(execution.carried(origin)) for execution in executions)
        return all(entry.has_same_places(state) for entry, state in zip(self.entry, states, strict=True))

    def receive(self, site: Site, executions: Sequence[DeviceExecution], origin: Origin) -> None:
        """Copies a state, which eager launches have left, to the places."""
        states = [Carried.of(execution.carried(origin)) for execution in executions]
        for device in site.streams.used:
            receive_on(site, device, self.entry, states)
            _let_all_wait(site, device)
        # What was copied goes back to the streams that made it.
        for to, execution in zip(self.entry, executions, strict=True):
            execution.carry_on(to.state(), execution.numbers(origin), origin)
            send_counts(site, execution)

    def launch(self, site: Site, executions: Sequence[DeviceExecution], origin: Origin) -> None:
        """Runs the period from `origin` on; the state must lie in `entry`, and is there again after it."""
        shift = origin.microbatch - self.origin.microbatch
        meet_devices(site)
        for places, execution in zip(self.places, executions, strict=True):
            places.fill(execution.device_feed, site, shift)
        self.rates.fill(site, executions[0].learning_rate, origin.update - self.origin.update)
        for step in self.steps:
            step.issue(site)
        if self.stamps is not None and site.timeline is not None:
            self.stamps.turn(shift, site.timeline)
        for places, execution in zip(self.places, executions, strict=True):
            places.losses.send(site.launching(places.losing), shift)
            places.losses.read(execution.arrived, left=1)
            send_counts(site, execution)

    def finish(self, executions: Sequence[DeviceExecution], first: Origin, launches: int) -> None:
        """Reads the last losses, and counts what the host would have counted, had it issued these periods."""
        starts = [first.after(number * self.iterations) for number in range(launches)]
        for number, execution in enumerate(executions):
            self.places[number].losses.read(execution.arrived)
            if execution.counts is not None:
                execution.counts.read()
            counted = execution.numbers(first).after([[n * launches for n in streams] for streams in self.updates])
            execution.carry_on(self.entry[number].state(), counted, first.after(launches * self.iterations))
            for stage, microbatch, lag in self.lags[number]:
                for start in starts:
                    execution.lags[stage][microbatch + start.microbatch - self.origin.microbatch] = lag


def receive_on(site: Site, device: int, entry: Sequence[Carried], states: Sequence[Carried]) -> None:
    """The part of the states that lies on one device goes to its places in `entry`."""
    with site.cuda.on(site.launching(device)):
        for to, state in zip(entry, states, strict=True):
            to.receive(state, lambda tensor: site.cuda.device_of(tensor) == device)


def _let_all_wait(site: Site, device: int) -> None:
    """All streams of a device come after what was launched on its first one."""
    copied, first = _now(site, site.launching(device)), site.streams.first_on(device)
    for number in site.streams.on_device(device):
        if number != first:
            site.cuda.wait(site.streams.all[number], copied)


def meet_devices(site: Site) -> None:
    """All devices have ended the period before: what crosses between two periods needs no event of its own."""
    streams = site.streams
    launching = [site.launching(device) for device in streams.used]
    if len(launching) > 1:
        ended = [_now(site, stream) for stream in launching]
        for stream in [*launching, *(streams.all[copying] for copying in streams.landings)]:
            for event in ended:
                site.cuda.wait(stream, event)


def _now(site: Site, stream: Stream) -> Event:
    event = site.cuda.event()
    site.cuda.record(event, stream)
    return event


def send_counts(site: Site, execution: DeviceExecution) -> None:
    """The staleness of all updates so far sets out to the host, which reads what the period before has sent."""
    if execution.counts is not None:
        execution.counts.send({device: site.launching(device) for device in site.streams.used})
        execution.counts.read(left=1)

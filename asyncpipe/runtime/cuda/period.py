"""One captured period: some iterations of a program's body, from a state to the same state later."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from asyncpipe.ir import Instruction, Program
from asyncpipe.kernels.fused.issuing import ADDRESSES, CapturedAddresses
from asyncpipe.runtime.cuda.api import Cuda, Graph, Stream
from asyncpipe.runtime.cuda.carry import Carried
from asyncpipe.runtime.cuda.execution import DeviceExecution, Origin
from asyncpipe.runtime.cuda.issuer import Issuer, Work
from asyncpipe.runtime.cuda.period_lines import (
    instructions_of,
    rated_updates,
    stages_of_gradients,
    updates_by_stream,
)
from asyncpipe.runtime.cuda.places import Places, in_place
from asyncpipe.runtime.cuda.static import StaticRates
from asyncpipe.runtime.execution import Lag

__all__ = ["Period", "Site", "capture_period"]


@dataclass(frozen=True)
class Site:
    """Where a run takes place. copying: the stream on which batches come."""

    cuda: Cuda
    program: Program
    streams: Sequence[Stream]
    copying: Stream
    work: Work
    executions: Sequence[DeviceExecution]


@dataclass(frozen=True)
class Period:
    """A graph and the fixed places that it reads and writes. `entry`: by replica, the state before and after a launch.

    leaving: the captured tensors that a launch copies to `entry` in its end; they belong to the graph. updates: by
    stage and stream. lags: by replica, (stage, microbatch, lag) as the capture counted them.
    """

    graph: Graph
    origin: Origin
    iterations: int
    entry: Sequence[Carried]
    leaving: Sequence[Carried]
    places: Sequence[Places]
    rates: StaticRates
    updates: Sequence[Sequence[int]]
    lags: Sequence[Sequence[tuple[int, int, Lag]]]

    def receive(self, site: Site, origin: Origin) -> None:
        """Copies a state, which eager launches have left, to the places."""
        with site.cuda.on(site.streams[0]):
            for to, execution in zip(self.entry, site.executions, strict=True):
                to.receive(Carried.of(execution.carried(origin)))
                execution.carry_on(to.state(), execution.numbers(origin), origin)

    def launch(self, site: Site, origin: Origin) -> None:
        """Runs the period from `origin` on; the state must lie in `entry`, and is there again after it."""
        launching, shift = site.streams[0], origin.microbatch - self.origin.microbatch
        for places, execution in zip(self.places, site.executions, strict=True):
            places.fill(execution.device_feed, launching, shift)
        self.rates.fill(launching, site.executions[0].learning_rate, origin.update - self.origin.update)
        site.cuda.launch(self.graph, launching)
        for places, execution in zip(self.places, site.executions, strict=True):
            places.losses.send(launching, shift)
            places.losses.read(execution.arrived, left=1)

    def finish(self, site: Site, first: Origin, launches: int) -> None:
        """Reads the last losses, and counts what the host would have counted, had it issued these periods."""
        starts = [first.after(number * self.iterations) for number in range(launches)]
        for number, execution in enumerate(site.executions):
            self.places[number].losses.read(execution.arrived)
            counted = execution.numbers(first).after([[n * launches for n in streams] for streams in self.updates])
            execution.carry_on(self.entry[number].state(), counted, first.after(launches * self.iterations))
            for stage, microbatch, lag in self.lags[number]:
                for start in starts:
                    execution.lags[stage][microbatch + start.microbatch - self.origin.microbatch] = lag


def capture_period(site: Site, origin: Origin, count: int) -> Period:
    """Captures `count` iterations from `origin` on. The executions stay in the state that they were in.

    All kernels must have run on their streams before. Nothing may be in flight: the streams are joined.
    """
    executions = site.executions
    lines = list(instructions_of(site.program, (origin.microbatch - site.program.start) // site.program.step, count))
    with site.cuda.on(site.streams[0]):
        places = [Places(site.cuda, site.copying, site.program, lines, execution) for execution in executions]
        rates = StaticRates(site.cuda, rated_updates(site.program, lines), executions[0].device)
    entry = [Carried.of(execution.carried(origin)) for execution in executions]
    numbers = [execution.numbers(origin) for execution in executions]
    known = [[len(lags) for lags in execution.lags] for execution in executions]
    # It keeps references, which must not be dropped before the capture has ended.
    issuer = Issuer(site.cuda, site.program, site.streams, site.work)
    with _addresses(site, lines), site.cuda.capture(site.streams[0]) as graph, in_place(executions, places, rates):
        leaving = _issue(site, issuer, lines, entry, origin.after(count))
    for execution, of, counted in zip(executions, entry, numbers, strict=True):
        execution.carry_on(of.state(), counted, origin)
    lags = [execution.take_lags(counts) for execution, counts in zip(executions, known, strict=True)]
    return Period(graph, origin, count, entry, leaving, places, rates, updates_by_stream(site.program, lines), lags)


def _issue(
    site: Site, issuer: Issuer, lines: Sequence[Instruction], entry: Sequence[Carried], end: Origin
) -> list[Carried]:
    """The period itself, and the way back of its state to `entry`."""
    issuer.fork(joined=True)
    issuer.issue(lines)
    issuer.join()
    leaving = [Carried.of(execution.carried(end)) for execution in site.executions]
    with site.cuda.on(site.streams[0]):
        for to, of in zip(entry, leaving, strict=True):
            to.receive(of)
    return leaving


@contextmanager
def _addresses(site: Site, lines: Sequence[Instruction]) -> Iterator[None]:
    """Tables for the addresses of gradients, which only the capture knows."""
    updated, taught = stages_of_gradients(site.program, lines)
    count = sum(
        sum(len(execution.stages[stage].arena.views) for stage in updated)
        + sum(execution.predicted_views(stage) for stage in taught)
        for execution in site.executions
    )
    with site.cuda.on(site.streams[0]):
        addresses = CapturedAddresses(count, site.executions[0].device)
    token = ADDRESSES.set(addresses)
    try:
        yield
    finally:
        ADDRESSES.reset(token)
    addresses.upload()

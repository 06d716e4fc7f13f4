"""The fixed places that a captured period reads its batches and learning rates from, and writes its losses to."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

from asyncpipe.ir import Instruction, Op, Program
from asyncpipe.runtime.cuda.api import Cuda, Stream
from asyncpipe.runtime.cuda.device_streams import DeviceStreams
from asyncpipe.runtime.cuda.device_timeline import DeviceTimeline
from asyncpipe.runtime.cuda.execution import DeviceExecution
from asyncpipe.runtime.cuda.feed import DeviceFeed
from asyncpipe.runtime.cuda.period_lines import launched, on_device, rated_updates
from asyncpipe.runtime.cuda.resident import ResidentBatches
from asyncpipe.runtime.cuda.static import StaticBatches, StaticLosses, StaticRates
from asyncpipe.runtime.rows import Rows

__all__ = ["Places", "Rates", "Site", "in_place"]


@dataclass(frozen=True)
class Site:
    """Where a run takes place. copying: by device, the stream on which batches come. executables: of one period.

    timeline: of a run that is timed.
    """

    cuda: Cuda
    program: Program
    streams: DeviceStreams
    copying: Mapping[int, Stream]
    executables: int = 1
    timeline: DeviceTimeline | None = None

    def launching(self, device: int) -> Stream:
        """The stream of the device that everything of a period is launched on, and after."""
        return self.streams.all[self.streams.first_on(device)]

    @property
    def launching_streams(self) -> dict[int, Stream]:
        """By device."""
        return {device: self.launching(device) for device in self.streams.used}

    def lines_of(self, device: int, lines: Sequence[Instruction]) -> list[Instruction]:
        return on_device(lines, self.streams.devices, device)


class _Side(NamedTuple):
    """What of a batch is read: as the data has it, where each microbatch is read once, and on the host."""

    host: Callable[[DeviceFeed, int], Any]
    rows: Callable[[DeviceFeed, int], Any] | None


_INPUTS = _Side(DeviceFeed.host_input, DeviceFeed.input_rows)
_TARGETS = _Side(DeviceFeed.host_target, DeviceFeed.target_rows)
_SHARED = _Side(DeviceFeed.host_target, None)
"""Targets that several stages read."""
Batches = StaticBatches | ResidentBatches


class Places:
    """The places of one replica: inputs and losses on one device each, targets on all that read any."""

    def __init__(self, site: Site, lines: Sequence[Instruction], execution: DeviceExecution) -> None:
        program, last = site.program, site.program.stages - 1
        self._cuda, feed = site.cuda, execution.device_feed
        self.read_last = launched(lines, Op.F, [last])
        own = [*(program.local if program.aux == "local" else []), last]
        self.inputs, self.targets = dict[int, Batches](), dict[int, Batches]()
        for device in site.streams.used:
            here = site.lines_of(device, lines)
            side = _TARGETS if len(own) == 1 else _SHARED
            _place(self.inputs, feed, site, device, launched(here, Op.F, [0]), _INPUTS)
            _place(self.targets, feed, site, device, launched(here, Op.F, own), side)
            if launched(here, Op.F, [last]):
                self.losing = device
        with site.cuda.on(site.launching(self.losing)):
            self.losses = StaticLosses(site.cuda, self.read_last, site.cuda.torch_device(self.losing))

    def input(self, microbatch: int) -> Any:
        """What the captured period reads, on the current stream's device."""
        return self.inputs[self._cuda.here()].place(microbatch)

    def target(self, microbatch: int) -> Any:
        """The same of targets."""
        return self.targets[self._cuda.here()].place(microbatch)

    def fill(self, feed: DeviceFeed, site: Site, shift: int) -> None:
        """With the batches of the period `shift` microbatches after the captured one."""
        for places, side in ((self.inputs, _INPUTS), (self.targets, _TARGETS)):
            for device, batches in places.items():
                launching = site.launching(device)
                if isinstance(batches, ResidentBatches):
                    assert side.rows is not None
                    batches.fill(launching, partial(side.rows, feed), shift, feed, feed.microbatches)
                else:
                    batches.fill(launching, partial(side.host, feed), shift)
        for microbatch in self.read_last:
            feed.forget(microbatch + shift)


def _place(
    places: dict[int, Batches], feed: DeviceFeed, site: Site, device: int, microbatches: Sequence[int], side: _Side
) -> None:
    """Gathered from a table on the device, if there is one."""
    if not microbatches:
        return
    launching = site.launching(device)
    rows = [(m, side.rows(feed, m)) for m in microbatches] if side.rows else []
    table = feed.resident.table_of(rows[0][1], device) if rows and isinstance(rows[0][1], Rows) else None
    if table is not None:
        places[device] = ResidentBatches(site.cuda, table, launching, rows, site.executables)
        return
    samples = [(m, side.host(feed, m)) for m in microbatches]
    with site.cuda.on(launching):
        places[device] = StaticBatches(site.cuda, site.copying[device], samples, site.cuda.torch_device(device))


class Rates:
    """The learning rates of a period, on each device those of its updates."""

    def __init__(self, site: Site, lines: Sequence[Instruction]) -> None:
        self._cuda = site.cuda
        self._tables: dict[int, StaticRates] = {}
        for device in site.streams.used:
            updates = rated_updates(site.program, site.lines_of(device, lines))
            with site.cuda.on(site.launching(device)):
                self._tables[device] = StaticRates(site.cuda, updates, site.cuda.torch_device(device))

    def at(self, update: int) -> Any:
        """What the captured update reads, on the current stream's device."""
        return self._tables[self._cuda.here()].at(update)

    def fill(self, site: Site, rate: Callable[[int], float], shift: int) -> None:
        """Those of updates `shift` after the captured ones."""
        for device, table in self._tables.items():
            table.fill(site.launching(device), rate, shift)


@contextmanager
def in_place(executions: Sequence[DeviceExecution], static: Sequence[Places], rates: Rates) -> Iterator[None]:
    """While capturing, the executions read and write the fixed places."""
    before = [(execution.feed, execution.sink, execution.learning_rate) for execution in executions]
    for execution, places in zip(executions, static, strict=True):
        execution.feed = _PlacedFeed(places)  # type: ignore[assignment]
        execution.sink, execution.learning_rate = places.losses, rates.at
    try:
        yield
    finally:
        for execution, (feed, sink, rate) in zip(executions, before, strict=True):
            execution.feed, execution.sink, execution.learning_rate = feed, sink, rate


@dataclass(frozen=True)
class _PlacedFeed:
    """The feed of a capture."""

    places: Places

    def inputs(self, microbatch: int) -> Any:
        return self.places.input(microbatch)

    def target(self, microbatch: int) -> Any:
        return self.places.target(microbatch)

    targets = target

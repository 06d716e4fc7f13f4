"""The fixed places of one replica that a captured period reads its batches from, and writes its losses to."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from asyncpipe.ir import Instruction, Op, Program
from asyncpipe.runtime.cuda.api import Cuda, Stream
from asyncpipe.runtime.cuda.execution import DeviceExecution
from asyncpipe.runtime.cuda.feed import DeviceFeed
from asyncpipe.runtime.cuda.period_lines import launched
from asyncpipe.runtime.cuda.static import StaticBatches, StaticLosses, StaticRates

__all__ = ["Places", "in_place"]


class Places:
    """The places of one replica."""

    def __init__(
        self, cuda: Cuda, copying: Stream, program: Program, lines: Sequence[Instruction], execution: DeviceExecution
    ) -> None:
        device = execution.stages[0].arena.layout.device
        feed = execution.device_feed
        last = program.stages - 1
        self.read_last = launched(lines, Op.F, [last])
        own = launched(lines, Op.F, program.local if program.aux == "local" else [])
        inputs, targets = launched(lines, Op.F, [0]), list(dict.fromkeys([*own, *self.read_last]))
        self.inputs = StaticBatches(cuda, copying, [(m, feed.host_input(m)) for m in inputs], device)
        self.targets = StaticBatches(cuda, copying, [(m, feed.host_target(m)) for m in targets], device)
        self.losses = StaticLosses(cuda, self.read_last, device)

    def fill(self, feed: DeviceFeed, launching: Stream, shift: int) -> None:
        """With the batches of the period `shift` microbatches after the captured one."""
        self.inputs.fill(launching, feed.host_input, shift)
        self.targets.fill(launching, feed.host_target, shift)
        for microbatch in self.read_last:
            feed.forget(microbatch + shift)


@contextmanager
def in_place(executions: Sequence[DeviceExecution], static: Sequence[Places], rates: StaticRates) -> Iterator[None]:
    """While capturing, the executions read and write the fixed places."""
    before = [(execution.feed, execution.sink, execution.learning_rate) for execution in executions]
    for execution, places in zip(executions, static, strict=True):
        execution.feed = _PlacedFeed(places)  # type: ignore[assignment]
        execution.sink, execution.learning_rate = places.losses, rates.at  # type: ignore[assignment]
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
        return self.places.inputs.place(microbatch)

    def target(self, microbatch: int) -> Any:
        return self.places.targets.place(microbatch)

    targets = target

"""Traced stages on a device, run by the `streams` or the `graph` back end."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

import torch
from torch import nn

from asyncpipe.errors import MachineError
from asyncpipe.ir import Program
from asyncpipe.runtime.cuda.api import Cuda, Stream
from asyncpipe.runtime.cuda.execution import DeviceExecution
from asyncpipe.runtime.cuda.feed import DeviceFeed
from asyncpipe.runtime.cuda.graph import GraphRunner
from asyncpipe.runtime.cuda.issuer import make_streams
from asyncpipe.runtime.cuda.period_lines import aligned
from asyncpipe.runtime.cuda.streams import run_streams
from asyncpipe.runtime.feed import Batch
from asyncpipe.runtime.replicas import ReplicaGroup
from asyncpipe.runtime.stage import Loss, StageOptions
from asyncpipe.runtime.stage_functions import StageFunctions
from asyncpipe.runtime.threads import Hook
from asyncpipe.runtime.traced import TracedStage
from asyncpipe.runtime.traced.traces import Traces

__all__ = ["CudaPlatform"]


@dataclass
class CudaPlatform:
    """For one training. in_graphs: `graph` rather than `streams`. emulate: `device` stands for all of the schedule.

    period: a graph has at least so many microbatches.
    """

    cuda: Cuda
    in_graphs: bool
    device: torch.device
    emulate: bool = False
    period: int = 8
    _streams: list[Stream] = field(init=False, default_factory=list)
    _traces: dict[int, Traces] = field(init=False, default_factory=dict)
    """By stage, for all replicas: they run the same code, and a trace takes about a second."""
    _graphs: GraphRunner | None = field(init=False, default=None)

    def place(self, model: nn.Module) -> None:
        model.to(self.device)

    def stage(
        self, program: Program, number: int, module: nn.Module, loss: Loss | None, options: StageOptions
    ) -> StageFunctions:
        slots = self._with_slots(program).slots
        return TracedStage(number, module, slots[number], program.backward_weights == "same", loss, options)

    @property
    def executions(self) -> type[DeviceExecution]:
        return DeviceExecution

    def prepared(self, program: Program, parts: Sequence[StageFunctions]) -> Program:
        for part in parts:
            if isinstance(part, TracedStage):
                part.traces = self._traces.setdefault(part.number, part.traces)
        return self._with_slots(program)

    def _with_slots(self, program: Program) -> Program:
        return aligned(program) if self.in_graphs else program

    def feed(self, batches: Iterable[Batch], microbatches: int) -> DeviceFeed:
        return DeviceFeed(batches, microbatches, self.cuda, self.device)

    def run(self, group: ReplicaGroup, hook: Hook | None = None, poll: Callable[[], None] | None = None) -> None:
        """A back end as all others."""
        self._share(group)
        streams = self._make_streams(group.program)
        if not self.in_graphs:
            run_streams(self.cuda, streams, group, hook, poll)
            return
        if self._graphs is None:
            self._graphs = GraphRunner(self.cuda, streams, self.period)
        self._graphs.run(group, hook, poll)

    def _share(self, group: ReplicaGroup) -> None:
        """What is read and written without order, because the algorithm says so."""
        for execution in group.executions:
            for stage, weights in zip(execution.stages, execution.weights, strict=True):
                read = [weights.live, weights.ahead, weights.corrected, *weights.private.values()]
                flat = [tensor for arena in read if arena is not None for tensor in arena.flat.values()]
                self.cuda.share(flat, f"the parameters of stage {stage.number}")
                if isinstance(stage, TracedStage) and stage.options.predictor is not None:
                    learned = list(stage.options.predictor.arena.flat.values())
                    self.cuda.share(learned, f"the predictor of stage {stage.number}")

    def _make_streams(self, program: Program) -> list[Stream]:
        """The same ones for all runs: kernels were loaded, and libraries have their memory, on them."""
        if not self._streams:
            logical = 1 + max(stream.device for stream in program.streams)
            if logical > 1 and not self.emulate:
                raise MachineError(
                    f"the schedule asks for {logical} devices, and this version trains on one",
                    "add --emulate to run all of them on one device, or use one that has `devices: 1`",
                )
            self._streams = make_streams(self.cuda, program, [self.device.index or 0] * logical)
        return self._streams

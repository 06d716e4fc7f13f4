"""Traced stages on a device, run by the `streams` or the `graph` back end."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

from asyncpipe.ir import DeviceClock, Program
from asyncpipe.runtime.arena import Arena
from asyncpipe.runtime.cuda.across import cannot_cross
from asyncpipe.runtime.cuda.apart import ApartStage, streams_apart
from asyncpipe.runtime.cuda.api import Cuda
from asyncpipe.runtime.cuda.clocks import measure_clock
from asyncpipe.runtime.cuda.counts import DeviceCounts
from asyncpipe.runtime.cuda.device_streams import DeviceStreams, make_streams
from asyncpipe.runtime.cuda.device_timeline import DeviceTimeline
from asyncpipe.runtime.cuda.execution import DeviceExecution
from asyncpipe.runtime.cuda.feed import DeviceFeed
from asyncpipe.runtime.cuda.graph import GraphRunner, versions_in_turn
from asyncpipe.runtime.cuda.machine import too_few_devices
from asyncpipe.runtime.cuda.memory_guard import MemoryGuard
from asyncpipe.runtime.cuda.memory_plan import Graphs
from asyncpipe.runtime.cuda.memory_report import plan_as_json
from asyncpipe.runtime.cuda.period_lines import aligned, iterations_of_period
from asyncpipe.runtime.cuda.refusals import cannot_repeat
from asyncpipe.runtime.cuda.repeated_updates import refuse_host_steps
from asyncpipe.runtime.cuda.resident import ResidentData
from asyncpipe.runtime.cuda.streams import device_execution, run_streams
from asyncpipe.runtime.feed import Batch
from asyncpipe.runtime.numerics import Numerics
from asyncpipe.runtime.platform import Refusal
from asyncpipe.runtime.replicas import ReplicaGroup
from asyncpipe.runtime.stage import Loss, StageOptions
from asyncpipe.runtime.stage_functions import StageFunctions
from asyncpipe.runtime.stopwatch import Stopwatch
from asyncpipe.runtime.threads import Hook
from asyncpipe.runtime.traced import TracedStage
from asyncpipe.runtime.traced.traces import Traces

__all__ = ["CudaPlatform"]

_PERIODS = (8, 4, 2, 1)
"""Microbatches of a period that is not asked for; the longer, the rarer all streams meet."""


@dataclass
class CudaPlatform:
    """For one training. in_graphs: `graph` rather than `streams`. emulate: `device` stands for all of the schedule.

    period: a graph has at least so many microbatches; None: 8, or fewer where memory is short. data: one of
    `resident.PLACES`. executables: graphs of one period that are launched in turn.
    """

    cuda: Cuda
    in_graphs: bool
    device: torch.device
    emulate: bool = False
    period: int | None = None
    numerics: Numerics = field(default_factory=Numerics)
    data: str = "auto"
    executables: int = 1
    _streams: DeviceStreams | None = field(init=False, default=None)
    _traces: dict[int, Traces] = field(init=False, default_factory=dict)
    """By stage, for all replicas: they run the same code, and a trace takes about a second."""
    _graphs: GraphRunner | None = field(init=False, default=None)
    _timeline: DeviceTimeline | None = field(init=False, default=None)
    """Of the next run."""
    _clock: DeviceClock | None = field(init=False, default=None)

    def __post_init__(self) -> None:
        self.memory = MemoryGuard(self.cuda)
        self.resident = ResidentData(self.cuda, self.data)

    def place(self, program: Program, stage: int, module: nn.Module) -> None:
        self.numerics.convert(module)
        module.to(self.cuda.torch_device(self._real_devices(program)[program.place[stage]]))

    def _real_devices(self, program: Program) -> list[int]:
        """By logical device; MachineError where there are too few."""
        logical = 1 + max(stream.device for stream in program.streams)
        if self.emulate or logical == 1:
            return [self.device.index or 0] * logical
        if self.cuda.devices < logical:
            raise too_few_devices(logical, self.cuda.devices)
        return list(range(logical))

    def _homes(self, program: Program) -> list[int]:
        """The real device of each stage."""
        real = self._real_devices(program)
        return [real[logical] for logical in program.place]

    def stage(
        self, program: Program, number: int, module: nn.Module, loss: Loss | None, options: StageOptions
    ) -> StageFunctions:
        slots = self._with_slots(program).slots
        real = self._real_devices(program)
        if apart := streams_apart(program, real, number):
            twins = {stream: self.cuda.torch_device(device) for stream, device in apart.items()}
            return ApartStage(number, module, slots[number], loss, options, twins)
        return TracedStage(number, module, slots[number], program.backward_weights == "same", loss, options)

    @property
    def counts_on_device(self) -> bool:
        return True

    def apart(self, part: StageFunctions) -> Mapping[int, Arena]:
        return {stream: twin.arena for stream, twin in part.twins.items()} if isinstance(part, ApartStage) else {}

    @property
    def executions(self) -> type[DeviceExecution]:
        return DeviceExecution

    @property
    def facts(self) -> dict[str, Any]:
        graph = None if self._graphs is None or self._graphs.facts is None else self._graphs.facts.words
        plan = self.memory.plan
        return {
            "graph": graph,
            "memory_plan": None if plan is None else plan_as_json(plan),
            "data": self.resident.facts,
        }

    @property
    def gathers(self) -> bool:
        return self.data != "pinned"

    def refused(self, program: Program) -> Sequence[Refusal]:
        repeated = cannot_repeat(program) if self.in_graphs else []
        return [*repeated, *cannot_cross(program, self._real_devices(program), self.in_graphs)]

    def prepared(self, program: Program, parts: Sequence[StageFunctions]) -> Program:
        for part in parts:
            if isinstance(part, TracedStage):
                part.traces = self._traces.setdefault(part.number, part.traces)
        return self._with_slots(program)

    def _with_slots(self, program: Program) -> Program:
        return aligned(program) if self.in_graphs else program

    def feed(self, batches: Iterable[Batch], microbatches: int) -> DeviceFeed:
        return DeviceFeed(batches, microbatches, self.cuda, self.resident)

    def run(self, group: ReplicaGroup, hook: Hook | None = None, poll: Callable[[], None] | None = None) -> None:
        """A back end as all others."""
        self._share(group)
        streams, homes = self._make_streams(group.program), self._homes(group.program)
        # Whatever made the weights, or set them since the last run, did so on default streams.
        self.cuda.settle(streams.used)
        executions = [device_execution(group, replica) for replica in range(len(group.executions))]
        for execution in executions:
            # Updates that end with a transfer are not counted where they run.
            apart = any(weights.apart for weights in execution.weights)
            execution.counts = None if apart else DeviceCounts(self.cuda, execution.updates)
        with self.memory.explaining(executions, homes):
            microbatches = self._plan(executions, homes, streams)
        self.memory.require_room()
        self._admit_data(executions[0].device_feed, streams, group.program)
        timeline, self._timeline = self._timeline, None
        with self.memory.explaining(executions, homes), self._ending(streams), self._timed(timeline, streams):
            self._run(group, streams, microbatches, hook, poll, timeline)
        for execution in executions:
            execution.on_device = None if execution.counts is None else execution.counts.finished()

    def _run(
        self,
        group: ReplicaGroup,
        streams: DeviceStreams,
        microbatches: int,
        hook: Hook | None,
        poll: Callable[[], None] | None,
        timeline: DeviceTimeline | None,
    ) -> None:
        if not self.in_graphs:
            run_streams(self.cuda, streams, group, hook, poll, timeline)
            return
        refuse_host_steps(group.executions)
        if self._graphs is None:
            self._graphs = GraphRunner(self.cuda, streams, microbatches, self.executables)
        self._graphs.microbatches = microbatches
        self._graphs.run(group, hook, poll, timeline)

    def timed(self, group: ReplicaGroup, stopwatch: Stopwatch) -> ReplicaGroup:
        """Actions end later than the host issues them: the devices stamp the next run."""
        self._timeline = DeviceTimeline(group.program)
        stopwatch.follow(self._timeline)
        return group

    @contextmanager
    def _ending(self, streams: DeviceStreams) -> Iterator[None]:
        """After a failure too all has run that was issued: default streams, which read the weights, wait for nobody."""
        try:
            yield
        except BaseException:
            with suppress(RuntimeError):  # of a device that is lost; what is raised says more
                self.cuda.settle(streams.used)
            raise

    @contextmanager
    def _timed(self, timeline: DeviceTimeline | None, streams: DeviceStreams) -> Iterator[None]:
        if timeline is None:
            yield
            return
        if self._clock is None:
            device = streams.used[0]
            self._clock = measure_clock(self.cuda, streams.all[streams.first_on(device)], device, self.in_graphs)
        timeline.begin(self.cuda, streams, self._clock)
        yield
        timeline.end(self.cuda, streams)

    def _admit_data(self, feed: DeviceFeed, streams: DeviceStreams, program: Program) -> None:
        """Takes tables to the devices of the first and the last stage, where the plan leaves room."""
        assert self.memory.plan is not None
        homes = self._homes(program)
        read: dict[int, list[Any]] = {}
        for device, batch in ((homes[0], feed.input_rows(0)), (homes[-1], feed.target_rows(0))):
            read.setdefault(device, []).append(batch)
        for device, batch in read.items():
            plan = self.memory.plan.of(device)
            room = plan.available + plan.exists - plan.total - self.resident.bytes_on(device)
            with self.cuda.on(streams.all[streams.first_on(device)]):
                self.resident.admit(batch, device, room)
            self.memory.let_all_wait(streams, device)

    def _plan(self, executions: Sequence[DeviceExecution], homes: Sequence[int], streams: DeviceStreams) -> int:
        """Plans the memory of a run; the microbatches of its periods."""
        if not self.in_graphs:
            self.memory.make_plan(executions, homes, streams)
            return 0
        asked = _PERIODS if self.period is None else (self.period,)
        program, versions = executions[0].program, versions_in_turn(executions)
        sizes = [iterations_of_period(program, at_least, versions) * program.step for at_least in (*asked, 1)]
        candidates = [Graphs(size, sizes[-1]) for size in dict.fromkeys(sizes[:-1])]
        return self.memory.plan_what_fits(executions, homes, streams, candidates).microbatches

    def _share(self, group: ReplicaGroup) -> None:
        """What is read and written without order, because the algorithm says so."""
        homes = self._homes(group.program)
        for execution in group.executions:
            for stage, weights, updates in zip(execution.stages, execution.weights, execution.updates, strict=True):
                read = [weights.live, weights.ahead, weights.corrected, *weights.private.values()]
                flat = [tensor for arena in read if arena is not None for tensor in arena.flat.values()]
                self.cuda.share(flat, f"the parameters of stage {stage.number}")
                self.cuda.share(updates.counted, f"the counters of stage {stage.number}")
                self.cuda.require_on(homes[stage.number], list(weights.live.flat.values()))
                if isinstance(stage, TracedStage) and stage.options.predictor is not None:
                    learned = list(stage.options.predictor.arena.flat.values())
                    self.cuda.share(learned, f"the predictor of stage {stage.number}")

    def _make_streams(self, program: Program) -> DeviceStreams:
        """The same ones for all runs: kernels were loaded, and libraries have their memory, on them."""
        if self._streams is None:
            self._streams = make_streams(self.cuda, program, self._real_devices(program))
        return self._streams

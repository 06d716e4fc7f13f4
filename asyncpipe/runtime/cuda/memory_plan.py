"""What a training will hold on each device, by class, from traces alone; known before anything is run or captured."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from asyncpipe.ir import TRANSFERS, Op, Program
from asyncpipe.runtime.cuda.api import DeviceMemory
from asyncpipe.runtime.cuda.execution import DeviceExecution
from asyncpipe.runtime.cuda.references import tensors_in
from asyncpipe.runtime.cuda.stage_plan import Classes, StagePlan, stage_plans
from asyncpipe.runtime.traced.call import Call
from asyncpipe.runtime.traced.footprint import Footprint

__all__ = ["CLASSES", "DevicePlan", "Graphs", "MemoryPlan", "plan_memory"]

CLASSES = ("parameters", "optimizer", "versions", "activations", "gradients", "workspace", "data", "graph")
BYTES_OF_NODE = 10 * 1024
"""Of an executable graph: an assumption, which experiment 5 of benchmarks/cuda_experiments measures."""


@dataclass(frozen=True)
class Graphs:
    """microbatches: of one period; least: the shortest that slots and updates allow."""

    microbatches: int
    least: int


@dataclass(frozen=True)
class DevicePlan:
    """bytes: by class. exists: what of it is allocated already. memory: what the device had left then."""

    device: int
    bytes: Classes
    exists: int
    memory: DeviceMemory

    @property
    def total(self) -> int:
        return sum(self.bytes.values())

    @property
    def available(self) -> int:
        """For what does not exist yet."""
        return self.memory.free + self.memory.cached

    @property
    def fits(self) -> bool:
        return self.total - self.exists <= self.available


@dataclass(frozen=True)
class MemoryPlan:
    """stages: of all replicas. graphs: None for eager launches."""

    devices: Sequence[DevicePlan]
    stages: Sequence[StagePlan]
    graphs: Graphs | None = None
    unknown: tuple[str, ...] = field(default=())

    @property
    def fits(self) -> bool:
        return all(device.fits for device in self.devices)

    def of(self, device: int) -> DevicePlan:
        return next(plan for plan in self.devices if plan.device == device)


def plan_memory(
    executions: Sequence[DeviceExecution],
    calls: Sequence[Call],
    devices: Sequence[int],
    memory: Mapping[int, DeviceMemory],
    graphs: Graphs | None = None,
) -> MemoryPlan:
    """calls: those of `traced_ahead`. devices: of each stage. memory: of each device."""
    program = executions[0].program
    stages = stage_plans(executions, calls, devices, graphs is not None)
    plan = MemoryPlan((), stages, graphs, _unknown(stages))
    found = [_device_plan(plan, program, calls, device, memory[device]) for device in sorted(set(devices))]
    return replace(plan, devices=found)


def _device_plan(
    plan: MemoryPlan, program: Program, calls: Sequence[Call], device: int, memory: DeviceMemory
) -> DevicePlan:
    here = [stage for stage in plan.stages if stage.device == device]
    exists = {name: sum(stage.exists[name] for stage in here) for name in ("parameters", "optimizer", "versions")}
    microbatches, copies = plan.graphs.microbatches if plan.graphs else 0, 1 if plan.graphs is None else 2
    planned = {
        "activations": sum(stage.held * stage.each.kept for stage in here),
        # With the gradient that comes from above, of one microbatch.
        "gradients": copies * sum(stage.gradients + stage.each.outputs for stage in here),
        "workspace": _workspace(program, here, memory, copies),
        # Two staging sets, and the places that a period reads.
        "data": 3 * microbatches * _batch(calls, program, [stage.stage for stage in here]),
        "graph": microbatches * BYTES_OF_NODE * sum(stage.each.calls for stage in here),
    }
    own = {name: (exists | planned)[name] for name in CLASSES}
    return DevicePlan(device, own, sum(exists.values()), memory)


def _workspace(program: Program, here: Sequence[StagePlan], memory: DeviceMemory, copies: int) -> int:
    """Of the streams that work at once: what libraries keep, and the most that an action holds besides its results."""
    stages = {stage.stage for stage in here}
    total = 0
    for number, stream in enumerate(program.streams):
        if stream.runs != TRANSFERS:
            launched = _launches(program, number)
            most = [_temporary(program, stage.each, op) for stage in here for op in launched.get(stage.stage, ())]
            total += copies * max(most, default=0) + (memory.workspace if stages & launched.keys() else 0)
    return total * program.replicas


def _launches(program: Program, stream: int) -> dict[int, set[Op]]:
    """By stage, what a stream runs."""
    found: dict[int, set[Op]] = {}
    for line in (*program.warmup, *program.body, *program.cooldown):
        if line.stream == stream and line.action.op in _TEMPORARY:
            found.setdefault(line.action.stage, set()).add(line.action.op)
    return found


_TEMPORARY = {Op.F: "forward", Op.U: "gradients", **dict.fromkeys((Op.B, Op.I, Op.W, Op.R), "backward")}


def _temporary(program: Program, each: Footprint, op: Op) -> int:
    """An update works in place, but for the sum of several gradients."""
    found: int = getattr(each, _TEMPORARY[op])
    return 0 if op is Op.U and program.every == 1 else found


def _batch(calls: Sequence[Call], program: Program, stages: Sequence[int]) -> int:
    """Bytes of one microbatch of data that stages on a device read: the first its input, the last its target."""
    read: list[Any] = [calls[0].inputs] if 0 in stages else []
    if program.stages - 1 in stages:
        read.append(calls[-1].target_tensors)
    return program.replicas * sum(tensor.nbytes for tensor in tensors_in(read))


def _unknown(stages: Sequence[StagePlan]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(f"{what} of stage {one.stage}" for one in stages for what in one.each.unknown))

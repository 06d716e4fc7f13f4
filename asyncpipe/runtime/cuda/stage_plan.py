"""What each stage will hold, from its trace."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Literal

from torch import Tensor
from torch.utils._pytree import tree_map_only

from asyncpipe.ir import Kind, Op, Program
from asyncpipe.runtime.arena import Arena
from asyncpipe.runtime.cuda.execution import DeviceExecution
from asyncpipe.runtime.recompute import recompute_of
from asyncpipe.runtime.traced import TracedStage
from asyncpipe.runtime.traced.call import Call
from asyncpipe.runtime.traced.divide import Division
from asyncpipe.runtime.traced.footprint import Footprint, footprint
from asyncpipe.runtime.traced.torch_tracing import without_data

__all__ = ["Classes", "Footprints", "StagePlan", "kept_by_stages", "stage_plans", "traced_ahead"]

Classes = Mapping[str, int]
"""Bytes by class."""


@dataclass(frozen=True)
class Footprints:
    """Of one stage for the inputs of a trace: as it runs (`each`), and with `recompute: full`."""

    division: Division
    mode: Literal["none", "full", "invert"]
    split: bool

    @cached_property
    def each(self) -> Footprint:
        return footprint(self.division, self.mode, self.split)

    @cached_property
    def full(self) -> Footprint:
        return self.each if self.mode == "full" else footprint(self.division, "full", self.split)


@dataclass(frozen=True)
class StagePlan:
    """One stage of one replica. in_flight: how many microbatches, with `footprints` each.

    held: of how many microbatches there are tensors: a graph has its own, those that the end of a run works on without
    it, and those in flight where a period begins. exists: what the stage has already, of parameters, optimizer and
    versions.
    """

    stage: int
    device: int
    in_flight: int
    held: int
    footprints: Footprints
    exists: Classes
    gradients: int

    @property
    def each(self) -> Footprint:
        return self.footprints.each

    @property
    def full(self) -> Footprint:
        return self.footprints.full


def traced_ahead(execution: DeviceExecution, on: Callable[[int], AbstractContextManager[None]]) -> list[Call]:
    """The call of each stage for microbatch 0, without data. Traces what is not traced yet, within `on(stage)`: a trace
    may compute constants.
    """
    feed, calls = execution.device_feed, list[Call]()
    value, targets = feed.host_input(0), feed.host_target(0)
    for stage in execution.stages:
        assert isinstance(stage, TracedStage)
        there = partial(without_data, device=stage.arena.layout.device)
        target = None if stage.loss is None else tree_map_only(Tensor, there, targets)
        calls.append(Call.of(tree_map_only(Tensor, there, value), target))
        with on(stage.number):
            joint = stage.traces.of(calls[-1]).joint
        results: list[Tensor] = [node.meta["val"] for node in joint.results]
        value = tuple(results) if joint.gives_tuple else results[0]
    return calls


def stage_plans(
    executions: Sequence[DeviceExecution], calls: Sequence[Call], devices: Sequence[int], in_graphs: bool
) -> list[StagePlan]:
    """Of all replicas. calls: those of `traced_ahead`. devices: of each stage."""
    program = executions[0].program
    prints = [_footprints(executions[0], call, number) for number, call in enumerate(calls)]
    found = []
    for execution in executions:
        for number, one in enumerate(prints):
            in_flight, between = _in_flight(program, number)
            held = 2 * in_flight + between if in_graphs else in_flight
            # The gradients of an update wait for its last microbatch.
            gradients = program.every * one.each.gradients
            exists = kept_by_stages(execution, number)
            found.append(StagePlan(number, devices[number], in_flight, held, one, exists, gradients))
    return found


def _footprints(execution: DeviceExecution, call: Call, number: int) -> Footprints:
    program, stage = execution.program, execution.stages[number]
    assert isinstance(stage, TracedStage)
    # Another division of the same trace: nothing is compiled for what may never run.
    division = Division(stage.traces.of(call).joint)
    return Footprints(division, recompute_of(program, number), any(Op.W in stream.runs for stream in program.streams))


def _in_flight(program: Program, stage: int) -> tuple[int, int]:
    """The most microbatches of a stage between their forward and the end of their backward, in the order of issue; and
    how many there are between two iterations of the body.

    A forward that runs on another stream than its backward learns of the end of that one microbatch later.
    """
    held = most = between = 0
    together = any(Op.F in stream.runs and {Op.B, Op.W} & set(stream.runs) for stream in program.streams)
    for part in (program.warmup, program.body, program.body, program.cooldown):
        for kind, _, action in part:
            if kind is Kind.LAUNCH and action.stage == stage:
                held += (action.op is Op.F) - (action.op in (Op.B, Op.W))
                most = max(most, held)
        between = held if part is program.body else between
    return min(most + (not together), program.slots[stage]), between


def kept_by_stages(execution: DeviceExecution, number: int) -> dict[str, int]:
    """Bytes that exist from the first microbatch to the last: parameters and buffers, optimizer, versions."""
    stage, weights, updates = execution.stages[number], execution.weights[number], execution.updates[number]
    assert isinstance(stage, TracedStage)
    predictor = stage.options.predictor
    buffers = sum(buffer.nbytes for buffer in stage.module.buffers())
    copies: list[Arena | None] = [*weights.past, weights.ahead, weights.corrected, *weights.private.values()]
    copies += [updates.read, *(slot.weights for slot in execution.slots_of(number))]
    return {
        "parameters": stage.arena.bytes + buffers + (predictor.arena.bytes if predictor else 0),
        "optimizer": sum(optimizer.state_bytes for optimizer in updates.optimizers.values())
        + (predictor.optimizer.state_bytes if predictor else 0),
        "versions": sum(arena.bytes for arena in copies if arena is not None),
    }

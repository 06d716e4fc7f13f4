"""Runs a model once in every way that the checks need, and keeps what came out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from asyncpipe.compiler import Compiled, compile_schedule
from asyncpipe.errors import UserCodeError, UserError
from asyncpipe.ir import Program
from asyncpipe.models.describe import LayerCost
from asyncpipe.runtime.backends import CUDA_BACKENDS, resolve_backend
from asyncpipe.runtime.stage_weights import aliases_live
from asyncpipe.schedule import Schedule
from asyncpipe.staging import cut_stages, estimated_seconds
from asyncpipe.tools.fit.chain import Chain, find_chain
from asyncpipe.tools.fit.layers import (
    Layer,
    few_samples,
    forward_seconds,
    layers_of,
    line_through,
    measured,
    stage_module,
)
from asyncpipe.tools.fit.memory import Microbatch, StageMemory, other_optimizers, stage_memory
from asyncpipe.tools.fit.probe import Forward, Step, record_forward, refused_copy, take_step, unchanged
from asyncpipe.tools.fit.stages import Proposal, proposals
from asyncpipe.tools.fit.subject import Subject
from asyncpipe.tools.fit.tracing import StageTrace, trace_stages
from asyncpipe.training.stages import stage_modules

__all__ = ["Asked", "Examined", "examine"]


@dataclass(frozen=True)
class Asked:
    """stages: how many, else the schedule says. costs: `flops` or `measured`. limits: of memory in bytes, and the
    largest curvature of the loss, where they are known."""

    schedule: Schedule
    backend: str = "auto"
    stages: int | None = None
    costs: str = "flops"
    memory: int | None = None
    curvature: float | None = None

    @property
    def is_cuda(self) -> bool:
        return resolve_backend(self.backend) in CUDA_BACKENDS


@dataclass(frozen=True)
class Layers:
    """The layers with their costs for a whole microbatch, of which `sample` is what runs here.

    seconds: of each forward, measured or `estimated`. tied: for each parameter that several have, its names by layer.
    """

    named: Sequence[Layer]
    sample: Tensor
    costs: Sequence[LayerCost]
    estimated: Sequence[float]
    seconds: Sequence[float]
    tied: Sequence[Mapping[int, str]]

    def modules(self, parts: Sequence[range]) -> list[nn.Sequential]:
        return [stage_module(self.named, part) for part in parts]


@dataclass(frozen=True)
class Examined:
    """What is known of a model under a schedule. `cut`: the layers of each stage, as `run` would have them.

    blocked: the layers after which no stage can end, and why. evaluation: what another number of samples raised.
    """

    subject: Subject
    asked: Asked
    layers: Layers
    forward: Forward
    blocked: Mapping[int, str]
    chain: Chain | None
    compiled: Compiled
    cut: Sequence[range]
    step: Step
    traces: Sequence[StageTrace]
    proposals: Sequence[Proposal]
    memory: Sequence[StageMemory]
    optimizers: Mapping[str, int]
    evaluation: UserCodeError | None

    @property
    def program(self) -> Program:
        return self.compiled.program()

    @property
    def can_be_cut_so(self) -> bool:
        return all(part[-1] not in self.blocked for part in self.cut[:-1])

    @property
    def reads_live_weights(self) -> bool:
        """Whether backwards read weights that updates change after the forward."""
        stale = any(self.compiled.staleness.forward_backward)
        return stale and self.program.backward_weights != "same"

    @property
    def aliases_live(self) -> bool:
        return aliases_live(self.program)

    def stage_of(self, layer: int) -> int:
        return next(number for number, part in enumerate(self.cut) if layer in part)


def examine(subject: Subject, asked: Asked) -> Examined:
    """UserCodeError where the model raises in its first forward; ScheduleError, UsageError for what cannot be cut."""
    subject.model.train()
    uncopied = refused_copy(subject.model)
    layers = _layers(subject, asked)
    with unchanged(subject.model):
        forward = _recorded(subject, layers, layers.sample)
        blocked = _blocked(forward, layers.tied)
    cut = cut_stages(asked.schedule, asked.stages, len(layers.named), lambda: layers.costs)
    compiled = compile_schedule(asked.schedule, len(cut))
    # Recorded tensors are known by their addresses; once there are stages, parameters lie in arenas.
    held = _held(subject, layers, forward, cut)
    with unchanged(subject.model):
        chain = None if type(subject.model) is nn.Sequential else find_chain(subject.model, layers.sample)
        evaluation = _evaluated(subject, layers)
    parts = cut if all(part[-1] not in blocked for part in cut[:-1]) else [range(len(layers.named))]
    traces, step = _trained(subject, layers, forward, parts, uncopied or _refused_stages(compiled, layers, cut))
    handed = [cost.activation_bytes for cost in layers.costs]
    return Examined(
        subject=subject,
        asked=asked,
        layers=layers,
        forward=forward,
        blocked=blocked,
        chain=chain,
        compiled=compiled,
        cut=cut,
        step=step,
        traces=traces,
        proposals=proposals(layers.seconds, handed, blocked, asked.stages, layers.estimated),
        memory=_memory(subject, asked, layers.modules(cut), compiled, held, step),
        optimizers={} if step.refusal else other_optimizers(subject.model),
        evaluation=evaluation,
    )


def _trained(
    subject: Subject, layers: Layers, forward: Forward, parts: Sequence[range], refusal: UserError | None
) -> tuple[Sequence[StageTrace], Step]:
    """What tracing stages with the layers `parts` says, and one step of theirs, unless there is a reason for none."""
    target = _target(subject, forward.walk.output, len(layers.sample))
    modules, autocast = layers.modules(parts), subject.numerics.autocast_dtype
    with unchanged(subject.model):
        given = [forward.walk.given[part[0]] for part in parts]
        traces = trace_stages(modules, given, subject.loss, target, autocast)
        if refusal is not None:
            return traces, Step(refusal=refusal)
        return traces, take_step(modules, subject.loss, layers.sample, target, autocast)


def _layers(subject: Subject, asked: Asked) -> Layers:
    named = layers_of(subject.model)
    with unchanged(subject.model):
        sample = few_samples(named, subject.sample)
        costs = measured(named, sample, subject.batch)
    estimated = [estimated_seconds(cost) for cost in costs]
    with unchanged(subject.model):
        seconds = forward_seconds(named, sample) if asked.costs == "measured" else estimated
    return Layers(named, sample, costs, estimated, seconds, _tied(named))


def _recorded(subject: Subject, layers: Layers, sample: Tensor) -> Forward:
    def target_of(output: Any) -> Any:
        return _target(subject, output, len(sample))

    with subject.numerics.computing(sample.device):
        return record_forward(subject.model, layers.named, sample, subject.loss, target_of)


def _target(subject: Subject, output: Any, few: int) -> Any:
    """That of the first samples."""
    target = subject.target_of(output)
    return target[:few] if isinstance(target, Tensor) and len(target) == subject.batch else target


def _tied(layers: Sequence[Layer]) -> list[Mapping[int, str]]:
    names: dict[int, dict[int, str]] = {}
    for number, (_, layer) in enumerate(layers):
        for name, parameter in layer.named_parameters():
            names.setdefault(id(parameter), {})[number] = name
    return [places for places in names.values() if len(places) > 1]


def _blocked(forward: Forward, tied: Sequence[Mapping[int, str]]) -> dict[int, str]:
    """The layers after which no stage can end, and why."""
    found = {number: f"layer {number} gives {kind}" for number, kind in enumerate(forward.walk.passes[:-1]) if kind}
    for places in tied:
        reason = f"{next(iter(places.values()))} is tied between layers {' and '.join(map(str, places))}"
        found |= dict.fromkeys(range(min(places), max(places)), reason)
    return found


def _evaluated(subject: Subject, layers: Layers) -> UserCodeError | None:
    """What evaluation mode on another number of samples raises: the last batch of a data set is seldom full."""
    sample = layers.sample
    other = sample[: len(sample) // 2] if len(sample) > 1 else torch.cat([sample, sample])
    value: Any = other.clone()
    with torch.no_grad(), subject.numerics.computing(sample.device):
        for name, layer in layers.named:
            try:
                value = layer.eval()(value)
            except Exception as error:
                reason = str(error).partition("\n")[0]
                return UserCodeError(
                    f"layer {name} raised {type(error).__name__} in evaluation mode on {len(other)} samples instead of"
                    f" {len(sample)}: {reason}"
                )
    return None


def _refused_stages(compiled: Compiled, layers: Layers, cut: Sequence[range]) -> UserError | None:
    """What the schedule wants of stages and these cannot: an inverse, outputs that a head takes."""
    try:
        stage_modules(compiled.program(), layers.modules(cut), layers.sample)
    except UserError as error:
        return error
    return None


def _held(subject: Subject, layers: Layers, forward: Forward, cut: Sequence[range]) -> list[Microbatch]:
    """Per stage, what it keeps of one whole microbatch."""
    ran = len(layers.sample)
    more = kept_bytes(forward, cut)
    if ran == subject.batch:
        return more
    with unchanged(subject.model):
        less = kept_bytes(_recorded(subject, layers, layers.sample[: ran // 2]), cut)
    extend = line_through(ran // 2, ran, subject.batch)
    return [Microbatch(*map(extend, few, many)) for few, many in zip(less, more, strict=True)]


def kept_bytes(forward: Forward, cut: Sequence[range]) -> list[Microbatch]:
    """Per stage, what autograd keeps of a microbatch besides parameters and buffers, and the stage's input."""
    overwritten = {key for operation in forward.recorder.operations for key in operation.overwrites}
    found = []
    for part in cut:
        keys = forward.recorder.saved_by(part) | forward.walk.inputs[part[0]]
        # What a layer gets inside a stage is no copy, but what the layer before gave.
        inner = {key for number in part[1:] for key in forward.walk.inputs[number]} - overwritten
        keys = {forward.walk.originals[key] if key in inner else key for key in keys}
        sizes = forward.recorder.bytes
        kept = sum(sizes[key] for key in keys - forward.parameters - forward.buffers)
        found.append(Microbatch(kept, sum(sizes[key] for key in forward.walk.inputs[part[0]])))
    return found


def _memory(
    subject: Subject,
    asked: Asked,
    modules: Sequence[nn.Module],
    compiled: Compiled,
    held: Sequence[Microbatch],
    step: Step,
) -> Sequence[StageMemory]:
    """Nothing where the stages cannot be built at all."""
    if step.refusal is not None:
        return ()
    return stage_memory(compiled, modules, held, subject.optimizer, asked.is_cuda)

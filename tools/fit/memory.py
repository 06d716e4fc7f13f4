"""Memory of each stage under a schedule, from the sizes of real arenas and optimizers; nothing is allocated."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import NamedTuple

import torch
from torch import Tensor, nn

from asyncpipe.analysis.memory import StageSizes, memory
from asyncpipe.analysis.steady import SteadyRun, run_steady
from asyncpipe.analysis.timing import Timing
from asyncpipe.compiler import Compiled
from asyncpipe.errors import UsageError
from asyncpipe.runtime.arena import Arena
from asyncpipe.runtime.optimizers import OptimizerSpec, StageOptimizer, make_optimizer
from asyncpipe.runtime.stage_updates import StageUpdates
from asyncpipe.runtime.stage_weights import Planned, StageWeights, aliases_live

__all__ = ["Microbatch", "StageMemory", "other_optimizers", "stage_memory"]

_CHOICES: dict[str, tuple[str, dict[str, object]]] = {
    "sgd": ("sgd", {}),
    "sgd with momentum": ("sgd", {"momentum": 0.9}),
    "adam": ("adam", {}),
    "nadam": ("nadam", {}),
    "lion": ("lion", {}),
    "muon": ("muon", {}),
}


class Microbatch(NamedTuple):
    """Bytes that a stage keeps of one microbatch, and those of its input among them."""

    activations: int
    input: int


@dataclass(frozen=True)
class StageMemory:
    """Bytes of one stage of one replica; `activations` of one microbatch, its input included, of which at most
    `in_flight` are under way; `held` at most for all of them, less where they are recomputed. copies: of the
    parameters, for stashes, lags, predictions and private weights."""

    parameters: int
    buffers: int
    gradients: int
    optimizer: int
    copies: int
    activations: int
    in_flight: int
    held: int

    @property
    def total(self) -> int:
        return self.parameters + self.buffers + self.gradients + self.optimizer + self.copies + self.held


def stage_memory(
    compiled: Compiled, modules: Sequence[nn.Module], microbatch: Sequence[Microbatch], spec: OptimizerSpec, cuda: bool
) -> list[StageMemory]:
    """UsageError or MachineError where optimizer and schedule do not fit each other. `cuda`: as streams and graph keep
    copies."""
    program = compiled.program()
    runs = run_steady(program, Timing())
    in_flight = memory(runs).in_flight
    found = []
    for stage, module in enumerate(modules):
        live = _without_memory(module)
        weights = StageWeights(live, program, compiled.versions[stage], stage)
        updates = StageUpdates(program, weights, spec, Planned())
        kept = [*weights.past, weights.ahead, weights.corrected, *weights.private.values(), updates.read]
        own = program.backward_weights == "same" if cuda else not aliases_live(program)
        found.append(
            StageMemory(
                parameters=live.bytes,
                buffers=sum(buffer.nbytes for buffer in module.buffers()),
                gradients=sum(p.nbytes for p in module.parameters() if p.requires_grad),
                optimizer=sum(_state_bytes(optimizer, live) for optimizer in updates.optimizers.values()),
                copies=live.bytes * (sum(arena is not None for arena in kept) + own * compiled.slots[stage]),
                activations=microbatch[stage].activations,
                in_flight=in_flight[stage],
                held=_held(compiled, runs, stage, in_flight[stage], microbatch[stage]),
            )
        )
    return found


def other_optimizers(model: nn.Module) -> dict[str, int]:
    """Bytes of the state that each built-in optimizer keeps for the model, unless it refuses it."""
    live = _without_memory(model)
    found = {}
    for name, (use, options) in _CHOICES.items():
        # muon refuses complex parameters
        with suppress(UsageError):
            found[name] = _state_bytes(make_optimizer(OptimizerSpec(use, 0.0, options), live), live)
    return found


def _held(compiled: Compiled, runs: Sequence[SteadyRun], stage: int, in_flight: int, microbatch: Microbatch) -> int:
    """At most, over a steady period."""
    if stage not in compiled.program().recomputed:
        return in_flight * microbatch.activations
    sizes = [StageSizes(0, 0, 0)] * compiled.stages
    sizes[stage] = StageSizes(0, microbatch.input, microbatch.activations)
    return sum(device.activations for device in memory(runs, sizes).devices)


def _without_memory(module: nn.Module) -> Arena:
    """The arena of a module's parameters, with shapes alone."""
    layout = Arena.of(module.named_parameters(remove_duplicate=False)).layout
    return Arena(replace(layout, device=torch.device("meta")))


def _state_bytes(optimizer: StageOptimizer, live: Arena) -> int:
    """After one step: before it some optimizers have no state."""
    gradients: list[Tensor | None] = [
        torch.zeros_like(view) if trainable else None
        for view, trainable in zip(live.views, live.trainable, strict=True)
    ]
    optimizer.step(gradients, 0.0)
    kept = optimizer.state()["parameters"].values()
    return sum(value.nbytes for state in kept for value in state.values() if isinstance(value, Tensor))

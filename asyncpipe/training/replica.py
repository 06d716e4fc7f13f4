"""One copy of the model as its stages: modules, weights, updates."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from asyncpipe.compiler import Compiled
from asyncpipe.errors import UsageError
from asyncpipe.ir import Program
from asyncpipe.runtime.clock import RunClock
from asyncpipe.runtime.divergence import DivergenceSampler
from asyncpipe.runtime.execution import Execution
from asyncpipe.runtime.feed import Feed
from asyncpipe.runtime.optimizers import OptimizerSpec
from asyncpipe.runtime.out_of_memory import naming_what_is_built
from asyncpipe.runtime.platform import Platform
from asyncpipe.runtime.stage import Loss
from asyncpipe.runtime.stage_functions import StageFunctions
from asyncpipe.runtime.stage_updates import StageUpdates
from asyncpipe.runtime.stage_weights import Planned, StageWeights
from asyncpipe.training.auto_rate import lr_factors
from asyncpipe.training.stages import StageModules, build_stage

__all__ = ["Replica", "build_replica"]


@dataclass(frozen=True)
class Replica:
    """Besides the platform parallel lists, one element for each stage."""

    platform: Platform
    parts: Sequence[StageFunctions]
    weights: Sequence[StageWeights]
    updates: Sequence[StageUpdates]

    def execution(
        self,
        compiled: Compiled,
        microbatches: int,
        feed: Feed,
        rate: Callable[[int], float],
        clock: RunClock,
        divergence: DivergenceSampler,
    ) -> Execution:
        """A run of `microbatches`; versions count from 0."""
        for weights, updates in zip(self.weights, self.updates, strict=True):
            weights.restart()
            updates.restart()
        program = self.platform.prepared(compiled.program(microbatches), self.parts)
        return self.platform.executions(program, self.parts, self.weights, self.updates, feed, rate, clock, divergence)

    def drop(self) -> None:
        """Forget every microbatch in flight."""
        for stage in self.parts:
            stage.drop()


def build_replica(
    platform: Platform,
    modules: Sequence[StageModules],
    compiled: Compiled,
    program: Program,
    spec: OptimizerSpec,
    loss: Loss,
    number: int,
) -> Replica:
    """Replica 0 is made of the modules themselves, the others of copies; UsageError for what does not fit together.

    program: what the stages must be able to run.
    """
    factors = lr_factors(compiled, spec)
    parts, weights, updates = [], [], []
    for stage, module in enumerate(modules):
        with naming_what_is_built(f"stage {stage} of replica {number}"):
            own = module if number == 0 else copy.deepcopy(module)
            part = build_stage(platform, program, stage, own, spec, loss)
            parts.append(part)
            weights.append(StageWeights(part.arena, program, program.versions[stage], stage, platform.apart(part)))
            planned = _planned(compiled, stage, factors[stage])
            updates.append(StageUpdates(program, weights[-1], spec, planned, platform.counts_on_device))
    if program.write == "racy" and not all(update.concurrent for update in updates):
        raise UsageError(
            f"optimizer {spec.use} takes one step at a time, and `write: racy` takes several at once",
            "use sgd, adam, adamw, nadam, lion or muon, or `write: ordered`",
        )
    return Replica(platform, parts, weights, updates)


def _planned(compiled: Compiled, stage: int, lr_factor: float) -> Planned:
    """What corrections of staleness go by: the plan's, whatever the real timing."""
    staleness = compiled.staleness
    return Planned(float(staleness.apply[stage]), float(staleness.forward_backward[stage]), lr_factor)

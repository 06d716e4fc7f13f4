"""The stages of a program on CPU back ends: each part of the model with what the program adds to it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from torch import nn

from asyncpipe.errors import UsageError
from asyncpipe.ir import Op, Program
from asyncpipe.runtime.auxiliary import GradientPredictor, WithHead, make_head, make_predictor, sample_outputs
from asyncpipe.runtime.optimizers import OptimizerSpec
from asyncpipe.runtime.platform import Platform
from asyncpipe.runtime.recompute import recompute_of, require_inverse, update_can_follow_recompute
from asyncpipe.runtime.stage import Loss, StageOptions
from asyncpipe.runtime.stage_functions import StageFunctions
from asyncpipe.runtime.stage_weights import aliases_live

__all__ = ["StageModules", "build_stage", "stage_modules"]


@dataclass(frozen=True)
class StageModules:
    """What is trained at a stage: its part of the model, with its head if any, and what predicts its gradient."""

    module: nn.Module
    predictor: nn.Module | None = None


def stage_modules(program: Program, modules: Sequence[nn.Module], sample: Any) -> list[StageModules]:
    """The parts of the model with heads and predictors that fit the microbatch `sample`; UsageError where a part
    cannot do what the program asks for."""
    for number in program.recomputed if program.recompute == "invert" else ():
        _require_reversible(program, number, modules[number])
    if not program.local:
        return [StageModules(module) for module in modules]
    outputs = sample_outputs(modules, sample)
    return [_with_auxiliary(program, number, module, outputs) for number, module in enumerate(modules)]


def _with_auxiliary(program: Program, number: int, module: nn.Module, outputs: Sequence[Any]) -> StageModules:
    if number not in program.local:
        return StageModules(module)
    if program.aux == "local":
        return StageModules(WithHead(module, make_head(number, outputs[number], outputs[-1])))
    return StageModules(module, make_predictor(number, outputs[number]))


def build_stage(
    platform: Platform, program: Program, number: int, made: StageModules, spec: OptimizerSpec, loss: Loss
) -> StageFunctions:
    """One stage with its slots; the parameters of the modules move into arenas."""
    for part in (made.module, made.predictor):
        if part is not None:
            platform.place(program, number, part)
    live = aliases_live(program)
    runs_recompute = any(Op.R in stream.runs for stream in program.streams)
    options = StageOptions(
        recompute=recompute_of(program, number),
        hold=live and runs_recompute and update_can_follow_recompute(program, number),
        shared_draws=program.recompute == "full",
        predictor=None if made.predictor is None else GradientPredictor(made.predictor, spec),
        input_gradient=not (program.aux == "local" and number - 1 in program.local),
        autocast=platform.numerics.autocast_dtype,
        take=platform.numerics.inputs if number == 0 else None,
        compiled=platform.numerics.is_compiled,
    )
    own_loss = number == program.stages - 1 or isinstance(made.module, WithHead)
    return platform.stage(program, number, made.module, loss if own_loss else None, options)


def _require_reversible(program: Program, number: int, module: nn.Module) -> None:
    if number in program.local or number == program.stages - 1:
        raise UsageError(
            f"recompute: invert: stage {number} gets no output back from a stage above",
            "limit `recompute: {mode: invert, stages: ...}` to stages below the last, and without `aux`",
        )
    require_inverse(number, module)

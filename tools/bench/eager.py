"""E and C: the ordinary loop with a fused optimizer, as it is and by torch.compile; X: on larger batches."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from asyncpipe.tools.bench.contender import Stepwise
from asyncpipe.tools.bench.problem import Batch, Problem

__all__ = ["all_cores", "compiled", "compiled_loss", "eager"]

LossOf = Callable[[nn.Module, Batch], Tensor]


def all_cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0))


def eager(problem: Problem, threads: int | None = None) -> Stepwise:
    """zero_grad, forward, backward, step."""
    return _loop(problem, problem.loss, threads)


def compiled(problem: Problem, threads: int | None = None, mode: str | None = None) -> Stepwise:
    """The same loop, whose forward and backward torch.compile has made; CUDA graphs of its own in some modes."""
    return _loop(problem, compiled_loss(problem, mode), threads)


def compiled_loss(problem: Problem, mode: str | None) -> LossOf:
    """Forward and loss as one compiled function, for the shapes of this problem only."""

    def loss(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
        return problem.loss(model, (x, y))

    # Not fullgraph: torch leaves recurrent layers to cuDNN and oneDNN, between two compiled parts.
    made: Any = torch.compile(loss, mode=mode, dynamic=False)

    def call(model: nn.Module, batch: Batch) -> Tensor:
        torch.compiler.cudagraph_mark_step_begin()
        found: Tensor = made(model, *batch)
        return found

    return call


def _loop(problem: Problem, loss_of: LossOf, threads: int | None) -> Stepwise:
    model = problem.model()
    optimizer = problem.optimizer(model)

    def step(batch: Batch) -> Tensor:
        optimizer.zero_grad(set_to_none=True)
        loss = loss_of(model, batch)
        loss.backward()
        optimizer.step()
        return loss

    return Stepwise(problem, step, threads)

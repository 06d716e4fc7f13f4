"""One call of a stage, by the autograd engine and by traced graphs."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from asyncpipe.runtime.stage import Stage, StageOptions
from asyncpipe.runtime.traced import TracedStage

Seeds = Callable[[tuple[Tensor, ...]], tuple[Tensor | None, ...]]


def ones(outputs: tuple[Tensor, ...]) -> tuple[Tensor | None, ...]:
    """The gradients of a sum of all outputs."""
    return tuple(torch.ones_like(y) if y.is_floating_point() else None for y in outputs)


def microbatch(
    stage: Any, value: Any, target: Any, seeds: Seeds | None, split: bool, lowest: bool
) -> list[Tensor | None]:
    """Results, gradients of the inputs and of the parameters."""
    result = stage.forward(0, value, target)
    results = result if isinstance(result, tuple) else (result,)
    gradients = None if seeds is None else seeds(results)
    if split:
        found = stage.input_gradient(0, gradients), stage.weight_gradient(0)
    else:
        found = stage.backward(0, gradients, lowest=lowest)
    return [*(y.detach() for y in results), *found[0], *found[1]]


def assert_traced_is_eager(
    module: nn.Module,
    value: Any,
    target: Any = None,
    *,
    loss: Any = None,
    seeds: Seeds | None = None,
    split: bool = False,
    lowest: bool = False,
    steps: int = 2,
    exact: bool = True,
    options: StageOptions | None = None,
) -> TracedStage:
    """Bit for bit, unless not `exact`, with the same random numbers; gives the traced stage."""
    seeds = seeds or (ones if loss is None else None)
    stages = (
        Stage(1, copy.deepcopy(module), 1, False, loss, options),
        TracedStage(1, copy.deepcopy(module), 1, False, loss, options),
    )
    found = []
    for stage in stages:
        torch.manual_seed(0)
        found.append([microbatch(stage, value, target, seeds, split, lowest) for _ in range(steps)])
    for eager, traced in zip(*found, strict=True):
        assert [one is None for one in traced] == [one is None for one in eager]
        for one, other in zip(traced, eager, strict=True):
            assert exact is False or (one is None and other is None) or torch.equal(one, other)
            torch.testing.assert_close(one, other)
    buffers = zip(stages[1].module.buffers(), stages[0].module.buffers(), strict=True)
    assert all(torch.equal(one, other) for one, other in buffers)
    return stages[1]

"""A hundred steps beside torch.optim."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from asyncpipe.kernels.fused.grid import Grid
from tests.kernels.fused.memory import Memory, relative_error
from tests.kernels.fused.test_special_values import OPTIMIZERS, options_of_torch
from tests.kernels.fused.variants import VARIANTS

STEPS, N = 100, 1000


def torch_result(name: str, values: Tensor, gradients: list[Tensor]) -> Tensor:
    """In the dtype of `values`."""
    parameter = torch.nn.Parameter(values.clone())
    optimizer = OPTIMIZERS[name][0]([parameter], foreach=False, **options_of_torch(name))
    for gradient in gradients:
        parameter.grad = gradient.to(values.dtype)
        optimizer.step()
    return parameter.detach()


@pytest.mark.parametrize("name", ["nesterov, decay", "adam", "adamw", "nadam"])
def test_hundred_steps_are_within_a_millionth_of_torch(memory: Memory, name: str) -> None:
    """In the 2-norm, and as near as torch to the truth in float64: AdamW's 1 - lr * decay, rounded, costs both 3e-6."""
    rule, options, numbers = VARIANTS[name]
    values = torch.randn(N)
    gradients = [torch.randn(N) for _ in range(STEPS)]
    weights, gradient = memory.place(values), memory.poison(N)
    update = memory.update(rule, options, numbers, weights, grid=Grid(programs=1, block=1024))
    for values_of_step in gradients:
        update.flat(gradient.copy_(values_of_step))
    single, double = (torch_result(name, values.to(dtype), gradients) for dtype in (torch.float32, torch.float64))
    assert relative_error(weights, single) <= 1e-6
    assert relative_error(weights, double) <= 1.1 * relative_error(single, double) + 1e-7
    assert relative_error(single, double) <= 4e-6

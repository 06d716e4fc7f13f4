"""NaN, infinities, signed zeros, subnormal and huge numbers: kept as torch.optim keeps them."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from asyncpipe.kernels.fused.grid import Grid
from asyncpipe.kernels.fused.options import Options
from asyncpipe.kernels.lion import lion
from tests.kernels.fused.memory import Memory
from tests.kernels.fused.variants import ADAPTIVE, VARIANTS

SPECIAL = (0.0, -0.0, 1.0, -2.5, 1e-40, 1e-30, 1e25, -3e38, math.inf, -math.inf, math.nan)
PAIRS = torch.tensor(list(itertools.product(SPECIAL, SPECIAL)))
"""(weight, first gradient) of every kind with every other."""
GRID = Grid(programs=2, block=64)
OPTIMIZERS: dict[str, tuple[Callable[..., torch.optim.Optimizer], dict[str, Any]]] = {
    "sgd": (torch.optim.SGD, {}),
    "momentum, dampening": (torch.optim.SGD, {"dampening": 0.3}),
    "nesterov, decay": (torch.optim.SGD, {"nesterov": True}),
    "adam": (torch.optim.Adam, {}),
    "adam, decay": (torch.optim.Adam, {}),
    "amsgrad": (torch.optim.Adam, {"amsgrad": True}),
    "adamw": (torch.optim.AdamW, {}),
    "nadam": (torch.optim.NAdam, {}),
    "nadam, decoupled decay": (torch.optim.NAdam, {"decoupled_weight_decay": True}),
}


def options_of_torch(name: str) -> dict[str, Any]:
    """torch.optim's words for a variant."""
    rule, options, numbers = VARIANTS[name]
    given: dict[str, Any] = {"lr": numbers["lr"], "weight_decay": numbers.get("weight_decay", 0.0)}
    if rule == "sgd":
        return given | ({"momentum": numbers["beta1"]} if options.momentum else {}) | OPTIMIZERS[name][1]
    return given | {"betas": (numbers["beta1"], numbers["beta2"]), "eps": numbers["eps"]} | OPTIMIZERS[name][1]


def gradients() -> list[Tensor]:
    """The second is finite, so that what the states kept of the first shows; the third has other signs.

    Half as large, for no sum to cancel: torch contracts some multiplications and additions, kernels never do.
    """
    first = PAIRS[:, 1]
    return [first, torch.ones_like(first), -first / 2]


def assert_kept(found: Tensor, expected: Tensor) -> None:
    """NaN and infinities at the same places with the same signs, and finite values nearly equal."""
    torch.testing.assert_close(found.cpu(), expected, rtol=1e-5, atol=1e-7, equal_nan=True)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_special_values_are_those_of_torch(memory: Memory, name: str) -> None:
    rule, options, numbers = VARIANTS[name]
    weights = memory.place(PAIRS[:, 0])
    parameter = torch.nn.Parameter(PAIRS[:, 0].clone())
    optimizer = OPTIMIZERS[name][0]([parameter], foreach=False, **options_of_torch(name))
    update = memory.update(rule, options, numbers, weights, grid=GRID)
    for gradient in gradients():
        update.flat(memory.place(gradient))
        parameter.grad = gradient.clone()
        optimizer.step()
        assert_kept(weights, parameter.detach())


def test_special_values_of_lion_are_those_of_its_definition(memory: Memory) -> None:
    weights, expected, momentum = memory.place(PAIRS[:, 0]), PAIRS[:, 0].clone(), torch.zeros(len(PAIRS))
    update = memory.update("lion", Options(), ADAPTIVE, weights, grid=GRID)
    for step, gradient in enumerate(gradients(), start=1):
        update.flat(memory.place(gradient))
        lion([expected], [gradient], [momentum], [step], lr=ADAPTIVE["lr"], betas=(0.9, 0.99))
        assert_kept(weights, expected)
        assert_kept(update.states.first, momentum)


def test_largest_moment_that_is_nan_stays(memory: Memory) -> None:
    """As torch.maximum keeps it; a state that was loaded may hold one where the second moment does not."""
    update = memory.update("adam", Options(amsgrad=True), ADAPTIVE, memory.full(20, 1.0), grid=GRID)
    update.states.largest.fill_(math.nan)
    update.flat(memory.full(20, 1.0))
    assert update.states.largest.isnan().all()
    assert update.states.second.isfinite().all()


def test_zero_over_zero_is_kept(memory: Memory) -> None:
    """Adam without eps, where no gradient ever came."""
    parameter = torch.nn.Parameter(torch.ones(20))
    weights = memory.place(parameter.detach())
    parameter.grad = torch.zeros(20)
    torch.optim.Adam([parameter], lr=0.1, eps=0.0).step()
    numbers = {"lr": 0.1, "beta1": 0.9, "beta2": 0.999, "eps": 0.0}
    memory.update("adam", Options(), numbers, weights).flat(memory.full(20, 0.0))
    assert parameter.isnan().all()
    assert weights.isnan().all()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_what_is_too_large_for_the_weights_becomes_infinite(memory: Memory, dtype: torch.dtype) -> None:
    largest = torch.finfo(dtype).max
    weights = memory.place(torch.tensor([largest, -largest] * 8), dtype)
    memory.update("sgd", Options(), {"lr": 1.0}, weights).flat(memory.place(torch.tensor([-0.1, 0.1] * 8) * largest))
    assert weights.tolist() == [math.inf, -math.inf] * 8

"""Every rule against its definition in plain torch and float64, on sizes around and far from whole blocks."""

from __future__ import annotations

import pytest
import torch

from tests.kernels.fused.memory import Memory, grid_for, relative_error
from tests.kernels.fused.reference import Reference
from tests.kernels.fused.variants import VARIANTS

SIZES = (1, 15, 16, 17, 1000)
TOLERANCE = {torch.float32: 1e-6, torch.float64: 1e-14}
"""Of the 2-norm of the error, over the 2-norm of the weights or of the state."""


def check(memory: Memory, name: str, n: int, dtype: torch.dtype) -> None:
    rule, options, numbers = VARIANTS[name]
    weights = memory.place(torch.randn(n), dtype)
    reference = Reference(rule, options, numbers, weights)
    update = memory.update(rule, options, numbers, weights, grid=grid_for(n))
    for _ in range(2):
        gradient = torch.randn(n, dtype=dtype)
        update.flat(memory.place(gradient))
        reference.update(gradient)
    assert relative_error(weights, reference.weights) <= TOLERANCE[dtype]
    kept = [(found, true) for found, true in zip(update.states, reference.states, strict=True) if found is not None]
    assert all(relative_error(found, true) <= TOLERANCE[dtype] for found, true in kept)


@pytest.mark.parametrize("n", SIZES)
@pytest.mark.parametrize("name", VARIANTS)
def test_float32_is_within_a_millionth_of_float64(memory: Memory, name: str, n: int) -> None:
    check(memory, name, n, torch.float32)


@pytest.mark.parametrize("name", ["nesterov, decay", "adamw, amsgrad", "nadam, decay", "lion, decay"])
def test_65_537_elements_are_within_a_millionth_of_float64(memory: Memory, name: str) -> None:
    check(memory, name, 65_537, torch.float32)


@pytest.mark.parametrize("name", VARIANTS)
def test_float64_weights_are_computed_in_float64(memory: Memory, name: str) -> None:
    check(memory, name, 1000, torch.float64)


def test_no_elements_are_an_update_all_the_same(memory: Memory) -> None:
    rule, options, numbers = VARIANTS["adam"]
    update = memory.update(rule, options, numbers, memory.full(0, 0.0))
    update.flat(memory.full(0, 0.0))
    assert update.counters.step.item() == 1

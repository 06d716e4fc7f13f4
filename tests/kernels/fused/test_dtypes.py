"""Gradients, states and weights of two bytes, master copies, and what can be stated bit for bit."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from torch import Tensor

from asyncpipe.kernels.fused.buffers import Buffers
from asyncpipe.kernels.fused.options import Options
from tests.kernels.fused.memory import Memory, grid_for, relative_error, same_bits
from tests.kernels.fused.reference import Reference
from tests.kernels.fused.variants import ADAPTIVE, VARIANTS

HALF = (torch.bfloat16, torch.float16)
FINEST = {torch.bfloat16: 2.0**-8, torch.float16: 2.0**-11}
"""Half a unit in the last place, relative."""


def float32(value: float) -> Tensor:
    return torch.tensor(value, dtype=torch.float32)


@pytest.mark.parametrize("n", [1, 17, 65_537])
def test_sgd_is_ieee_arithmetic_without_contraction(memory: Memory, n: int) -> None:
    """Every operation is rounded by itself, in this order, so that a GPU computes the same bits."""
    numbers = {"lr": 0.1, "beta1": 0.9, "dampening": 0.3, "weight_decay": 0.01, "scale": 1 / 3}
    weights, states = memory.place(torch.randn(n)), torch.zeros(n)
    expected = weights.cpu().clone()
    update = memory.update("sgd", Options(momentum=True, decay="coupled"), numbers, weights, grid=grid_for(n))
    for step in range(2):
        gradient = torch.randn(n)
        update.flat(memory.place(gradient))
        direction = gradient * float32(1 / 3) + float32(0.01) * expected
        states = direction if step == 0 else float32(0.9) * states + float32(1 - 0.3) * direction
        expected = expected - float32(0.1) * states
    assert same_bits(weights, expected)
    assert same_bits(update.states.first, states)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
@pytest.mark.parametrize("name", ["nesterov, decay", "adamw, amsgrad", "nadam", "lion, decay"])
def test_gradients_of_any_dtype_are_taken_as_float32(memory: Memory, name: str, dtype: torch.dtype) -> None:
    rule, options, numbers = VARIANTS[name]
    values, gradient = torch.randn(40), torch.randn(40, dtype=torch.float64).to(dtype)
    weights = [memory.place(values) for _ in range(2)]
    memory.update(rule, options, numbers, weights[0]).flat(memory.place(gradient))
    memory.update(rule, options, numbers, weights[1]).flat(memory.place(gradient, torch.float32))
    assert same_bits(*weights)


@pytest.mark.parametrize("dtype", HALF)
@pytest.mark.parametrize("name", ["momentum", "adamw", "nadam, decoupled decay", "lion"])
def test_weights_are_the_rounded_master_copy(memory: Memory, name: str, dtype: torch.dtype) -> None:
    rule, options, numbers = VARIANTS[name]
    values = torch.randn(40)
    master, weights = memory.place(values), memory.place(values, dtype)
    peer, ahead = memory.poison(40, dtype), memory.poison(40)
    reference = Reference(rule, options, numbers, values)
    update = memory.update(rule, options, numbers, Buffers(weights, master=master, peer=peer, ahead=ahead))
    for _ in range(3):
        gradient = torch.randn(40).to(dtype)
        update.flat(memory.place(gradient))
        reference.update(gradient)
    assert relative_error(master, reference.weights) <= 1e-6
    assert same_bits(weights, master.cpu().to(dtype))
    assert same_bits(peer, weights)
    assert same_bits(ahead, master)


@pytest.mark.parametrize("dtype", HALF)
def test_what_somebody_else_stored_in_the_weights_replaces_their_master_copy(
    memory: Memory, dtype: torch.dtype
) -> None:
    """An average of replicas, or another optimizer: its next update must not bring the old weights back."""
    values = torch.randn(40)
    master, weights = memory.place(values), memory.place(values, dtype)
    weights[::2] = 3.0
    memory.update("sgd", Options(), {"lr": 2.0**-12}, Buffers(weights, master=master)).flat(memory.full(40, 1.0))
    assert torch.equal(master[::2].cpu(), torch.full((20,), 3.0 - 2.0**-12))
    assert torch.equal(master[1::2].cpu(), values[1::2] - 2.0**-12)


@pytest.mark.parametrize("dtype", HALF)
def test_atomic_adds_go_to_the_master_copy(memory: Memory, dtype: torch.dtype) -> None:
    values, gradient = torch.randn(40), torch.randn(40)
    master, weights = memory.place(values), memory.poison(40, dtype)
    update = memory.update("sgd", Options(atomic=True), {"lr": 0.5}, Buffers(weights, master=master))
    update.flat(memory.place(gradient))
    assert same_bits(master, values - 0.5 * gradient)
    assert same_bits(weights, master.cpu().to(dtype))


@pytest.mark.parametrize("dtype", HALF)
@pytest.mark.parametrize("name", ["momentum", "adamw", "lion"])
def test_weights_without_a_master_copy_are_rounded_to_nearest(memory: Memory, name: str, dtype: torch.dtype) -> None:
    """Followers see what was stored."""
    rule, options, numbers = VARIANTS[name]
    values, gradient = torch.randn(40).to(dtype), torch.randn(40)
    weights, peer = memory.place(values), memory.poison(40)
    wide = memory.place(values, torch.float32)
    memory.update(rule, options, numbers, Buffers(weights, peer=peer)).flat(memory.place(gradient))
    memory.update(rule, options, numbers, wide).flat(memory.place(gradient))
    assert same_bits(weights, wide.cpu().to(dtype))
    assert same_bits(peer, weights.cpu().float())


@pytest.mark.parametrize("dtype", [*HALF, torch.float64])
def test_states_are_rounded_to_their_own_dtype(memory: Memory, dtype: torch.dtype) -> None:
    gradient = torch.randn(40)
    update = memory.update("adam", Options(), ADAPTIVE, memory.full(40, 0.0), state_dtype=dtype)
    update.flat(memory.place(gradient))
    assert same_bits(update.states.first, (float32(1 - 0.9) * gradient).to(dtype))
    assert same_bits(update.states.second, (float32(1 - 0.99) * gradient * gradient).to(dtype))


@pytest.mark.parametrize("dtype", HALF)
def test_two_bytes_for_everything_is_as_precise_as_two_bytes_are(memory: Memory, dtype: torch.dtype) -> None:
    values, gradient = torch.randn(65_537).to(dtype), torch.randn(65_537).to(dtype)
    weights = memory.place(values)
    reference = Reference("adam", Options(), ADAPTIVE, values)
    grid = grid_for(65_537)
    memory.update("adam", Options(), ADAPTIVE, weights, grid=grid, state_dtype=dtype).flat(memory.place(gradient))
    reference.update(gradient)
    error = ((weights.double().cpu() - reference.weights) / reference.weights).abs()
    assert float(error[reference.weights.abs() > 1e-2].max()) <= FINEST[dtype] * (1 + 1e-3)


@pytest.mark.parametrize("name", ["sgd, decay", "nesterov", "amsgrad", "nadam", "lion"])
@pytest.mark.parametrize("n", [1, 15, 1000])
def test_one_atomic_writer_stores_the_same_bits(memory: Memory, name: str, n: int) -> None:
    """w + (-x) is w - x; only decoupled decay, below, is another sum."""
    rule, options, numbers = VARIANTS[name]
    values, gradient = torch.randn(n), torch.randn(n)
    stored, added = memory.place(values), memory.place(values)
    memory.update(rule, options, numbers, stored, grid=grid_for(n)).flat(memory.place(gradient))
    atomic = dataclasses.replace(options, atomic=True)
    memory.update(rule, atomic, numbers, added, grid=grid_for(n)).flat(memory.place(gradient))
    assert same_bits(stored, added)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("name", ["adamw", "nadam, decoupled decay", "lion, decay"])
def test_atomic_decay_is_part_of_what_is_added(memory: Memory, name: str, dtype: torch.dtype) -> None:
    rule, options, numbers = VARIANTS[name]
    weights = memory.place(torch.randn(40), dtype)
    reference = Reference(rule, options, numbers, weights)
    update = memory.update(rule, dataclasses.replace(options, atomic=True), numbers, weights)
    for _ in range(2):
        gradient = torch.randn(40)
        update.flat(memory.place(gradient))
        reference.update(gradient)
    assert relative_error(weights, reference.weights) <= {torch.float32: 1e-6, torch.float64: 1e-14}[dtype]

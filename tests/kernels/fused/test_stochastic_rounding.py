"""Stochastic rounding to bfloat16: which values, with which probability, from which random numbers."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from asyncpipe.kernels.fused.buffers import Buffers
from asyncpipe.kernels.fused.grid import Grid
from asyncpipe.kernels.fused.options import Options
from asyncpipe.kernels.fused.table import GradientTable
from tests.kernels.fused.memory import Memory, same_bits

STEP = 2.0**-7
"""Between neighbouring bfloat16 numbers from 1 to 2."""
ROUNDED = Options(rounding="stochastic")
ONE_BLOCK = Grid(programs=1, block=32_768)


def run(
    memory: Memory, weights: Tensor, gradient: Tensor, *, seed: int = 7, steps: int = 0, grid: Grid = ONE_BLOCK
) -> Tensor:
    """weights - gradient, rounded; `steps` updates came before this one."""
    placed = memory.place(weights, torch.bfloat16)
    counters = {"seed": memory.integers(seed), "step": memory.integers(steps)}
    update = memory.update("sgd", ROUNDED, {"lr": 1.0}, placed, grid=grid, counters=counters)
    update.flat(memory.place(gradient))
    return placed.cpu()


def went_up(memory: Memory, n: int, probability: float, *, seed: int = 7, steps: int = 0) -> Tensor:
    """float64 (n), 1 where 1 + probability * STEP became 1 + STEP; nothing else than that or 1 may come out."""
    found = run(memory, torch.ones(n), torch.full((n,), -probability * STEP), seed=seed, steps=steps).double()
    assert set(found.tolist()) <= {1.0, 1.0 + STEP}
    return (found - 1.0) / STEP


@pytest.mark.parametrize("probability", [2.0**-14, 0.125, 1 / 3, 0.5, 0.9, 1 - 2.0**-14])
def test_mean_is_the_value_within_its_standard_error(memory: Memory, probability: float) -> None:
    draws = torch.cat([went_up(memory, 32_768, probability, steps=step) for step in range(4)])
    error = math.sqrt(probability * (1 - probability) / draws.numel())
    assert abs(float(draws.mean()) - probability) <= 3 * error


@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_small_updates_are_not_lost(memory: Memory, sign: float) -> None:
    """Each is a hundredth of half a unit in the last place: rounding to nearest would drop them all."""
    n, change = 4096, STEP / 200
    weights = memory.full(n, sign, torch.bfloat16)
    counters = {"seed": memory.integers(3)}
    update = memory.update("sgd", ROUNDED, {"lr": 1.0}, weights, grid=Grid(1, n), counters=counters)
    for _ in range(16):
        update.flat(memory.full(n, -sign * change))
    error = STEP * math.sqrt(16 * 0.005 / n)
    assert abs(float(weights.double().mean()) - sign * (1 + 16 * change)) <= 3 * error


def test_neighbours_and_steps_are_drawn_independently(memory: Memory) -> None:
    """Eight neighbours share one call of Philox; columns 8 and 9 are the next step's, and another seed's."""
    n = 32_768
    neighbours = went_up(memory, n, 0.5).reshape(-1, 8)
    others = [went_up(memory, n, 0.5, steps=1), went_up(memory, n, 0.5, seed=8)]
    columns = torch.cat([neighbours, *(other.reshape(-1, 8)[:, :1] for other in others)], dim=1)
    correlations = torch.corrcoef(columns.T).fill_diagonal_(0.0)
    assert float(correlations.abs().max()) <= 4 / math.sqrt(n / 8)


def test_values_that_bfloat16_holds_stay(memory: Memory) -> None:
    every = torch.arange(2**16, dtype=torch.int32).to(torch.int16).view(torch.bfloat16)
    held = every[every.isfinite()]
    found = run(memory, held, torch.zeros(held.numel()))
    assert torch.equal(found, held)


def test_what_is_not_finite_stays(memory: Memory) -> None:
    """A GPU's own NaN has all bits set: one more would carry into the sign, and leave a zero."""
    values = torch.tensor([math.inf, -math.inf, math.nan, 1.0, -1.0, 0.0] * 8)
    gradient = torch.tensor([1.0, 1.0, 1.0, math.nan, -math.inf, math.inf] * 8)
    gradient = torch.where(gradient.isnan(), torch.tensor(0x7FFFFFFF, dtype=torch.int32).view(torch.float32), gradient)
    found = run(memory, values, gradient, grid=Grid(2, 16))
    expected = torch.tensor([math.inf, -math.inf, math.nan, math.nan, math.inf, -math.inf] * 8)
    torch.testing.assert_close(found.float(), expected, rtol=0, atol=0, equal_nan=True)


def test_followers_see_what_was_stored(memory: Memory) -> None:
    weights, peer = memory.full(64, 1.0, torch.bfloat16), memory.poison(64)
    counters = {"seed": memory.integers(7)}
    update = memory.update("sgd", ROUNDED, {"lr": 1.0}, Buffers(weights, peer=peer), counters=counters)
    update.flat(memory.full(64, -STEP / 2))
    assert same_bits(peer, weights.cpu().float())
    assert set(weights.tolist()) == {1.0, 1.0 + STEP}


def test_equal_seeds_give_equal_bits_and_each_step_and_seed_others(memory: Memory) -> None:
    first, again = went_up(memory, 256, 0.5), went_up(memory, 256, 0.5)
    assert torch.equal(first, again)
    others = [went_up(memory, 256, 0.5, steps=1), went_up(memory, 256, 0.5, seed=8), went_up(memory, 256, 0.5, seed=-7)]
    assert not any(torch.equal(first, other) for other in others)


@pytest.mark.parametrize("grid", [Grid(1, 16), Grid(3, 64), Grid(16, 256)], ids=str)
def test_draws_do_not_depend_on_the_grid(memory: Memory, grid: Grid) -> None:
    weights, gradient = torch.randn(333), torch.randn(333) / 100
    expected = run(memory, weights, gradient, grid=Grid(1, 1024))
    assert same_bits(run(memory, weights, gradient, grid=grid), expected)


def test_draws_do_not_depend_on_how_gradients_arrive(memory: Memory) -> None:
    lengths, starts = [48, 17, 7], [0, 48, 80]
    gradients = [memory.full(length, -STEP / 2) for length in lengths]
    weights = memory.full(96, 1.0, torch.bfloat16)
    update = memory.update("sgd", ROUNDED, {"lr": 1.0}, weights, counters={"seed": memory.integers(7)})
    update.tensors(GradientTable(starts, lengths, memory.device, 16), gradients)
    flat = 1.0 + went_up(memory, 96, 0.5) * STEP
    for start, length in zip(starts, lengths, strict=True):
        assert torch.equal(weights.cpu()[start : start + length].double(), flat[start : start + length])

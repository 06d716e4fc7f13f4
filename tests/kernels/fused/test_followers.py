"""Buffers that follow the weights in the same pass: predicted, corrected, private and pushed."""

from __future__ import annotations

import pytest
import torch

from asyncpipe.kernels.fused.buffers import Buffers
from asyncpipe.kernels.fused.options import Options
from tests.kernels.fused.memory import Memory, grid_for, relative_error, same_bits
from tests.kernels.fused.reference import Reference
from tests.kernels.fused.variants import ADAPTIVE, MOMENTUM, VARIANTS

PIPEMARE = {"drift_decay": 0.6, "drift_horizon": 3.0}


@pytest.mark.parametrize("name", VARIANTS)
def test_prediction_goes_on_along_the_direction(memory: Memory, name: str) -> None:
    """SGD's direction is its velocity, without Nesterov's or a spike's share of the gradient (SpecTrain)."""
    rule, options, numbers = VARIANTS[name]
    numbers = numbers | {"horizon": 2.5}
    weights, ahead = memory.place(torch.randn(40)), memory.poison(40)
    reference = Reference(rule, options, numbers, weights)
    update = memory.update(rule, options, numbers, Buffers(weights, ahead=ahead))
    for _ in range(2):
        gradient = torch.randn(40)
        update.flat(memory.place(gradient))
        reference.update(gradient)
    assert relative_error(weights, reference.weights) <= 1e-6
    assert relative_error(ahead, reference.ahead) <= 1e-6


def test_prediction_uses_the_rate_after_staleness(memory: Memory) -> None:
    numbers = {"lr": 1.0, "horizon": 1.0, "staleness": 4.0, "staleness_power": 1.0}
    weights, ahead = memory.full(16, 0.0), memory.poison(16)
    memory.update("sgd", Options(lr_over_staleness=True), numbers, Buffers(weights, ahead=ahead)).flat(
        memory.full(16, -1.0)
    )
    assert weights.tolist() == [0.25] * 16
    assert ahead.tolist() == [0.5] * 16


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("rule", ["sgd", "adam"])
def test_drift_and_corrected_weights_are_those_of_pipemare(memory: Memory, rule: str, dtype: torch.dtype) -> None:
    numbers, options = ADAPTIVE | PIPEMARE | {"lr": 0.5}, Options()
    weights, drift, corrected = memory.place(torch.randn(40), dtype), memory.full(40, 0.0, dtype), memory.poison(40)
    reference = Reference(rule, options, numbers, weights)
    update = memory.update(rule, options, numbers, Buffers(weights, drift=drift, corrected=corrected))
    for _ in range(3):
        gradient = torch.randn(40)
        update.flat(memory.place(gradient))
        reference.update(gradient)
    tolerance = {torch.float32: 1e-6, torch.float64: 1e-13}[dtype]
    assert relative_error(drift, reference.drift) <= tolerance
    assert relative_error(corrected, reference.corrected) <= 1e-6


def test_private_weights_are_read_and_overwrite_the_shared_ones(memory: Memory) -> None:
    """What another stream stored in between is lost: the meaning of `overwrite`."""
    own, others, gradient = (torch.randn(40) for _ in range(3))
    private, weights = memory.place(own), memory.place(others)
    reference = Reference("sgd", Options(momentum=True), MOMENTUM, own)
    update = memory.update("sgd", Options(momentum=True), MOMENTUM, Buffers(weights, private=private))
    for _ in range(2):
        weights.copy_(torch.randn(40))
        update.flat(memory.place(gradient))
        reference.update(gradient)
    assert same_bits(private, weights)
    assert relative_error(weights, reference.weights) <= 1e-6


@pytest.mark.parametrize("n", [1, 15, 16, 17, 65_537])
@pytest.mark.parametrize("atomic", [False, True], ids=["store", "atomic"])
def test_push_stores_the_new_weights_at_the_peer_too(memory: Memory, n: int, atomic: bool) -> None:
    values, gradient = torch.randn(n), torch.randn(n)
    weights, peer = memory.place(values), memory.poison(n)
    update = memory.update("sgd", Options(atomic=atomic), {"lr": 0.5}, Buffers(weights, peer=peer), grid=grid_for(n))
    update.flat(memory.place(gradient))
    assert same_bits(peer, weights)
    assert same_bits(weights, values - 0.5 * gradient)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_followers_are_rounded_to_their_own_dtype(memory: Memory, dtype: torch.dtype) -> None:
    values, gradient = torch.randn(40), torch.randn(40)
    numbers = {"lr": 0.5, "horizon": 2.0} | PIPEMARE
    names = ("peer", "ahead", "corrected", "private")
    found = {name: memory.poison(40, dtype) for name in names[:3]} | {"private": memory.place(values, dtype)}
    buffers = Buffers(memory.poison(40), drift=memory.full(40, 0.0), **found)
    update = memory.update("sgd", Options(), numbers, buffers)
    update.flat(memory.place(gradient))
    before = values.to(dtype).float()
    new = before - 0.5 * gradient
    drift = torch.tensor(1 - 0.6, dtype=torch.float32) * (new - before)
    expected = {"peer": new, "private": new, "ahead": new - gradient, "corrected": new - 3.0 * drift}
    assert all(same_bits(found[name], expected[name].to(dtype)) for name in names)


@pytest.mark.parametrize("n", [1, 15, 16, 17, 1000])
def test_all_outputs_are_written_whole(memory: Memory, n: int) -> None:
    options = Options(momentum=True, nesterov=True, decay="coupled")
    outputs = {name: memory.poison(n) for name in ("ahead", "corrected", "peer", "weights")}
    weights = outputs.pop("weights")
    inputs = {"private": memory.place(torch.randn(n)), "drift": memory.full(n, 0.0)}
    update = memory.update("sgd", options, MOMENTUM | PIPEMARE, Buffers(weights, **inputs, **outputs))
    update.flat(memory.place(torch.randn(n)))
    assert all(tensor.isfinite().all() for tensor in (weights, *inputs.values(), *outputs.values()))

"""Muon against torch.optim.Muon, bit for bit, and its Newton-Schulz iteration against the singular values."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from asyncpipe.kernels.muon import is_matrix, muon, orthogonalize

LR = 0.05
SHAPES = [(1, 1), (3, 5), (16, 16), (5, 3), (64, 17), (3, 5), (17, 64), (16, 16), (16, 16)]
"""Wide, square, tall; some alike, so that they share their products where batched."""
COEFFICIENTS = (3.4445, -4.7750, 2.0315)


def draw(shapes: Sequence[tuple[int, ...]], dtype: torch.dtype = torch.float32) -> list[Tensor]:
    return [torch.randn(shape).to(dtype) for shape in shapes]


def same_bits(one: Tensor, other: Tensor) -> bool:
    return torch.equal(one.contiguous().view(torch.uint8), other.contiguous().view(torch.uint8))


def run_kernel(start: list[Tensor], gradients: list[list[Tensor]], **options: Any) -> list[Tensor]:
    parameters, buffers = [tensor.clone() for tensor in start], [torch.zeros_like(tensor) for tensor in start]
    for number, step in enumerate(gradients, start=1):
        given = [gradient.clone() for gradient in step]
        muon(parameters, given, buffers, [number] * len(start), lr=LR, **options)
        assert all(map(same_bits, given, step)), "gradients must stay as they are"
    return parameters


def run_torch(start: list[Tensor], gradients: list[list[Tensor]], **options: Any) -> list[Tensor]:
    parameters = [nn.Parameter(tensor.clone()) for tensor in start]
    optimizer = torch.optim.Muon(parameters, lr=LR, **options)
    for step in gradients:
        for parameter, gradient in zip(parameters, step, strict=True):
            parameter.grad = gradient.clone()
        optimizer.step()
    return [parameter.detach() for parameter in parameters]


def assert_equals_torch(start: list[Tensor], gradients: list[list[Tensor]], **options: Any) -> None:
    expected = run_torch(start, gradients, **options)
    for found, other, before in zip(run_kernel(start, gradients, **options), expected, start, strict=True):
        assert torch.isfinite(other).all()
        assert not torch.equal(other, before)
        assert same_bits(found, other)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"nesterov": False, "weight_decay": 0.0},
        {"momentum": 0.0},
        {"adjust_lr_fn": "match_rms_adamw", "momentum": 0.3},
        {"adjust_lr_fn": "original", "ns_steps": 0},
        {"ns_coefficients": (1.5, -0.5, 0.0), "ns_steps": 12, "eps": 0.1},
    ],
    ids=str,
)
def test_matrices_have_the_bits_of_torch(options: dict[str, Any]) -> None:
    assert_equals_torch(draw(SHAPES), [draw(SHAPES) for _ in range(3)], **options)


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.float16], ids=str)
def test_matrices_of_other_dtypes_have_the_bits_of_torch(dtype: torch.dtype) -> None:
    assert_equals_torch(draw(SHAPES, dtype), [draw(SHAPES, dtype) for _ in range(3)])


def test_transposed_matrices_have_the_bits_of_torch() -> None:
    start, *gradients = ([tensor.t() for tensor in draw([(5, 3), (17, 64)])] for _ in range(4))
    assert_equals_torch(start, gradients)


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last], ids=str)
def test_weights_of_convolutions_are_matrices_of_output_channels(memory_format: torch.memory_format) -> None:
    start, *gradients = (draw([(6, 3, 3, 2), (40, 2, 3, 3)]) for _ in range(4))
    expected = run_torch([w.flatten(1) for w in start], [[g.flatten(1) for g in step] for step in gradients])
    start = [tensor.contiguous(memory_format=memory_format) for tensor in start]
    for found, other in zip(run_kernel(start, gradients), expected, strict=True):
        assert torch.equal(found.flatten(1), other)


def test_momentum_in_bfloat16_is_kept_as_it_is() -> None:
    """torch.optim.Muon (2.13) normalizes it in place there: it shares memory with what is made orthogonal."""
    gradients = draw([(4, 6), (4, 6)], torch.bfloat16)
    buffer, expected = torch.zeros(4, 6, dtype=torch.bfloat16), torch.zeros(4, 6, dtype=torch.bfloat16)
    for gradient in gradients:
        muon([torch.zeros(4, 6, dtype=torch.bfloat16)], [gradient], [buffer], [1], lr=LR, nesterov=False)
        expected.lerp_(gradient, 1 - 0.95)
        assert torch.equal(buffer, expected)


@pytest.mark.parametrize("shape", [(4, 4), (4, 9), (9, 4)], ids=str)
def test_singular_values_come_near_one_and_singular_vectors_stay(shape: tuple[int, int]) -> None:
    stack = torch.randn(3, *shape, dtype=torch.float64)
    found = orthogonalize(stack, COEFFICIENTS, 5, 1e-7)
    u, _, v = torch.linalg.svd(stack, full_matrices=False)
    diagonals = u.mT @ found @ v.mT
    values = diagonals.diagonal(dim1=1, dim2=2)
    torch.testing.assert_close(diagonals, torch.diag_embed(values), rtol=0, atol=1e-9)
    assert 0.6 < values.min() < values.max() < 1.3


def test_the_polynomial_of_an_exact_iteration_gives_an_orthogonal_matrix() -> None:
    """x (15 - 10 x^2 + 3 x^4) / 8 has the fixed point 1, unlike Jordan's faster polynomial."""
    (found,) = orthogonalize(torch.randn(1, 5, 5, dtype=torch.float64), (15 / 8, -10 / 8, 3 / 8), 40, 1e-7)
    torch.testing.assert_close(found @ found.mT, torch.eye(5, dtype=torch.float64), rtol=0, atol=1e-12)


@pytest.mark.parametrize("batched", [False, True])
def test_zero_and_nan_stay_in_their_own_matrix(batched: bool) -> None:
    zero, broken, sound = torch.zeros(3, 3), torch.full((3, 3), math.nan), torch.randn(3, 3)
    found = run_kernel([torch.ones(3, 3)] * 3, [[zero, broken, sound]], weight_decay=0.0, batched=batched)
    (alone,) = run_kernel([torch.ones(3, 3)], [[sound]], weight_decay=0.0)
    assert torch.equal(found[0], torch.ones(3, 3))
    assert found[1].isnan().all()
    torch.testing.assert_close(found[2], alone, rtol=0, atol=0.02 * LR)


@pytest.mark.parametrize(
    "options", [{}, {"nesterov": False, "ns_steps": 7}, {"adjust_lr_fn": "match_rms_adamw"}], ids=str
)
def test_batched_matrices_differ_from_single_ones_in_last_bits_only(options: dict[str, Any]) -> None:
    """In an update, whose elements are at most about 1 (or as many times lr as the rate is adjusted)."""
    start, gradients = draw(SHAPES), [draw(SHAPES)]
    single, batched = (run_kernel(start, gradients, batched=batched, **options) for batched in (False, True))
    for one, other, before in zip(single, batched, start, strict=True):
        assert (one - other).abs().max() <= 0.02 * (one - before).abs().max()


def test_batched_matrices_keep_their_order() -> None:
    """Updates of a single element are their signs, whatever the polynomial makes of their size."""
    signs = [1.0, -1.0, -1.0, 1.0]
    gradients = [torch.full((1, 1), sign) for sign in signs]
    gradients.insert(2, torch.ones(2, 3))
    found = run_kernel([torch.zeros_like(gradient) for gradient in gradients], [gradients], batched=True)
    assert [-tensor.sign().item() for tensor in found if tensor.numel() == 1] == signs


@pytest.mark.parametrize("batched", [False, True])
def test_nothing_to_update_is_no_error(batched: bool) -> None:
    muon([], [], [], [], lr=LR, batched=batched)
    start = draw([(0, 3), (3, 0), (2, 2)])
    found = run_kernel(start, [draw([(0, 3), (3, 0), (2, 2)])], batched=batched)
    assert [tensor.shape for tensor in found] == [(0, 3), (3, 0), (2, 2)]
    assert not torch.equal(found[2], start[2])


def test_matrices_are_tensors_of_two_axes_or_four() -> None:
    assert [ndim for ndim in range(7) if is_matrix(torch.zeros([1] * ndim))] == [2, 4]

"""Lion against its definition: by hand, over plain numbers in float64, and bit for bit over single tensors."""

from __future__ import annotations

import itertools
import math
from typing import Any

import pytest
import torch
from torch import Tensor

from asyncpipe.kernels.lion import lion

LR = 0.05
OPTIONS: list[dict[str, Any]] = [
    {"betas": betas, "weight_decay": decay, "maximize": maximize}
    for betas, decay, maximize in itertools.product([(0.9, 0.99), (0.5, 0.0)], [0.0, 0.1], [False, True])
]


def run(start: Tensor, gradients: list[Tensor], **options: Any) -> Tensor:
    parameter, momentum = start.clone(), torch.zeros_like(start)
    for step, gradient in enumerate(gradients, start=1):
        given = gradient.clone()
        lion([parameter], [given], [momentum], [step], lr=LR, **options)
        assert torch.equal(given.view(torch.uint8), gradient.view(torch.uint8)), "gradients must stay as they are"
    return parameter


def sign(number: float) -> float:
    return float((number > 0) - (number < 0))


def algorithm_2(
    w: float, gradients: list[float], betas: tuple[float, float], weight_decay: float, maximize: bool
) -> float:
    m = 0.0
    for gradient in gradients:
        g = -gradient if maximize else gradient
        w = w * (1 - LR * weight_decay) - LR * sign(betas[0] * m + (1 - betas[0]) * g)
        m = betas[1] * m + (1 - betas[1]) * g
    return w


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_updates_are_those_of_the_paper(options: dict[str, Any]) -> None:
    start = torch.randn(33, dtype=torch.float64)
    gradients = [torch.randn(33, dtype=torch.float64) for _ in range(8)]
    by_element = zip(start.tolist(), torch.stack(gradients, dim=1).tolist(), strict=True)
    expected = [algorithm_2(w, numbers, **options) for w, numbers in by_element]
    torch.testing.assert_close(run(start, gradients, **options).tolist(), expected, rtol=1e-14, atol=1e-15)


def test_three_steps_worked_out_by_hand() -> None:
    """The third interpolated momentum is 0, and so is its sign: only the weight decay moves the parameter."""
    w, momentum = torch.tensor([1.0]), torch.zeros(1)
    found = []
    for step, gradient in enumerate([2.0, -4.0, 1.5], start=1):
        lion([w], [torch.tensor([gradient])], [momentum], [step], lr=0.5, betas=(0.5, 0.5), weight_decay=0.5)
        found.append((w.item(), momentum.item()))
    assert found == [(0.25, 1.0), (0.6875, -1.5), (0.515625, 0.0)]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.float16], ids=str)
def test_every_dtype_has_the_bits_of_operations_on_single_tensors(dtype: torch.dtype) -> None:
    start, gradients = torch.randn(1000).to(dtype), [torch.randn(1000).to(dtype) for _ in range(4)]
    expected, momentum = start.clone(), torch.zeros_like(start)
    for gradient in gradients:
        expected.mul_(1 - LR * 0.1).add_((momentum * 0.9).add_(gradient, alpha=1 - 0.9).sign(), alpha=-LR)
        momentum.mul_(0.99).add_(gradient, alpha=1 - 0.99)
    found = run(start, gradients, weight_decay=0.1)
    assert found.dtype == dtype
    assert torch.equal(found, expected)


def test_nan_reaches_its_parameter_and_infinity_moves_it_as_any_number() -> None:
    gradient = torch.tensor([math.nan, math.inf, -math.inf, 0.0, 3.0])
    found = run(torch.zeros(5), [gradient])
    assert found[0].isnan()
    assert torch.equal(found[1:], torch.tensor([-LR, LR, 0.0, -LR]))


def test_complex_numbers_are_pairs() -> None:
    start = torch.randn(17, dtype=torch.complex64)
    gradients = [torch.randn(17, dtype=torch.complex64) for _ in range(3)]
    pairs = run(torch.view_as_real(start), [torch.view_as_real(gradient) for gradient in gradients], weight_decay=0.1)
    assert torch.equal(run(start, gradients, weight_decay=0.1), torch.view_as_complex(pairs))

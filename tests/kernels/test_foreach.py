"""Torch's operations over lists are loops on the CPU: the reason why the default arithmetic may use them."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from asyncpipe.kernels.lists import as_real, scale

SIZES = [1, 15, 16, 17, 1000, 65537]

List = list[Tensor]
CASES: dict[str, tuple[Callable[[List, List, List], object], Callable[[Tensor, Tensor, Tensor], object]]] = {
    "add": (lambda a, b, c: torch._foreach_add_(a, b, alpha=-0.1), lambda a, b, c: a.add_(b, alpha=-0.1)),
    "add scalar": (lambda a, b, c: torch._foreach_add_(a, 0.3), lambda a, b, c: a.add_(0.3)),
    "mul": (lambda a, b, c: scale(a, 0.9), lambda a, b, c: a.mul_(0.9)),
    "lerp": (lambda a, b, c: torch._foreach_lerp_(a, b, 1 - 0.9), lambda a, b, c: a.lerp_(b, 1 - 0.9)),
    "addcmul": (
        lambda a, b, c: torch._foreach_addcmul_(a, b, b, 1 - 0.999),
        lambda a, b, c: a.addcmul_(b, b, value=1 - 0.999),
    ),
    "addcdiv": (
        lambda a, b, c: torch._foreach_addcdiv_(a, b, c, [-1e-3] * len(a)),
        lambda a, b, c: a.addcdiv_(b, c, value=-1e-3),
    ),
    "div": (lambda a, b, c: torch._foreach_div_(a, [0.3] * len(a)), lambda a, b, c: a.copy_(a / 0.3)),
    "sqrt": (lambda a, b, c: torch._foreach_sqrt_(a), lambda a, b, c: a.copy_(a.sqrt())),
    "neg": (lambda a, b, c: torch._foreach_copy_(a, torch._foreach_neg(b)), lambda a, b, c: a.copy_(-b)),
    "maximum": (
        lambda a, b, c: torch._foreach_maximum_(a, b),
        lambda a, b, c: torch.maximum(a, b, out=a),
    ),
}  # fmt: skip


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("name", CASES)
def test_operation_over_a_list_equals_a_loop(name: str, dtype: torch.dtype) -> None:
    over_list, one_by_one = CASES[name]
    first, second, third = ([torch.rand(size).to(dtype) + 0.1 for size in SIZES] for _ in range(3))
    looped = [tensor.clone() for tensor in first]
    before = [tensor.clone() for tensor in first]
    over_list(first, second, third)
    for tensors in zip(looped, second, third, strict=True):
        one_by_one(*tensors)
    assert not torch.equal(first[-1], before[-1])
    assert all(map(torch.equal, first, looped))


def test_complex_tensors_are_seen_as_pairs_of_the_same_memory() -> None:
    numbers, others = torch.zeros(3, dtype=torch.complex64), torch.zeros(3)
    pairs, same = as_real([numbers, others])
    pairs += 1
    assert same is others
    assert numbers.tolist() == [1 + 1j] * 3

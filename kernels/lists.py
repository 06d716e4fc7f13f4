"""Operations over lists of tensors of one dtype that torch lacks, or rounds differently than its loops."""

from __future__ import annotations

import math

import torch
from torch import Tensor

__all__ = ["as_real", "scale", "scaled", "signs"]

HALF_PRECISION = (torch.bfloat16, torch.float16)


def as_real(tensors: list[Tensor]) -> list[Tensor]:
    """Complex tensors as views with one more axis of length 2, others as they are."""
    return [torch.view_as_real(tensor) if tensor.is_complex() else tensor for tensor in tensors]


def scale(tensors: list[Tensor], factor: float | Tensor) -> None:
    """Multiply in place, with the bits of `tensor.mul_(factor)`."""
    if tensors[0].dtype not in HALF_PRECISION:
        torch._foreach_mul_(tensors, factor)
        return
    # On the CPU _foreach_mul_ (torch 2.13) rounds the factor to half precision first; `mul_` does not.
    for tensor in tensors:
        tensor.mul_(factor)


def scaled(tensors: list[Tensor], factor: float) -> list[Tensor]:
    """New tensors, with the bits of `tensor.mul(factor)`."""
    if tensors[0].dtype not in HALF_PRECISION:
        return list(torch._foreach_mul(tensors, factor))
    return [tensor.mul(factor) for tensor in tensors]


def signs(tensors: list[Tensor]) -> list[Tensor]:
    """New tensors of -1, 0 and 1, and NaN where a tensor has NaN: torch.sign would hide it behind a 0."""
    return [tensor.sign().masked_fill_(tensor.isnan(), math.nan) for tensor in tensors]

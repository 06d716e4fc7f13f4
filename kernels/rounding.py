"""Stochastic rounding to bfloat16: what CPUs run, and the reference of `fused/device/rounding.py`."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["round_stochastically"]

KEPT = -(1 << 16)
"""Of a float32 bfloat16 keeps the upper half."""


def round_stochastically(values: Tensor, generator: torch.Generator) -> Tensor:
    """float32 values as bfloat16, up with the probability of the remainder: unbiased. Infinities and NaN stay.

    Sixteen random bits below the kept ones carry into them with exactly that probability.
    """
    noise = torch.randint(1 << 16, values.shape, dtype=torch.int32, device=values.device, generator=generator)
    rounded = ((values.view(torch.int32) + noise) & KEPT).view(torch.float32)
    return torch.where(values.isfinite(), rounded, values).to(torch.bfloat16)

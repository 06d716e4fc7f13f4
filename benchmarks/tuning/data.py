"""Random data sets of a set size: what is timed here does not depend on what the numbers are."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["pixels", "sequences"]

Splits = tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]


def sequences(samples: int = 1024, steps: int = 50, features: int = 64) -> Splits:
    """Images of `steps` rows, which an LSTM reads row by row."""
    return _splits((samples, 1, steps, features))


def pixels(samples: int = 4096, features: int = 784) -> Splits:
    return _splits((samples, features))


def _splits(shape: tuple[int, ...]) -> Splits:
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randn(shape, generator=generator)
    targets = torch.randint(10, shape[:1], generator=generator)
    return (inputs, targets), (inputs[:64], targets[:64])

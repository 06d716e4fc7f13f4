"""Losses by name, where torch's own would not see that a sequence has a class for each step."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

__all__ = ["cross_entropy"]


def cross_entropy(output: Tensor, target: Tensor, **options: Any) -> Tensor:
    """torch's, and for sequences, output (batch, steps, classes) with target (batch, steps), that of all steps.

    torch itself expects (batch, classes, steps), which no language model gives.
    """
    if output.dim() == 3 and target.dim() == 2:
        output, target = output.flatten(0, 1), target.flatten()
    return nn.functional.cross_entropy(output, target, **options)

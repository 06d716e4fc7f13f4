"""Losses by name, where torch's own would not see that a sequence has a class for each step."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from asyncpipe.errors import UsageError

__all__ = ["cross_entropy", "require_scalar"]


def cross_entropy(output: Tensor, target: Tensor, **options: Any) -> Tensor:
    """torch's, and for sequences, output (batch, steps, classes) with target (batch, steps), that of all steps.

    torch itself expects (batch, classes, steps), which no language model gives.
    """
    if output.dim() == 3 and target.dim() == 2:
        output, target = output.flatten(0, 1), target.flatten()
    return nn.functional.cross_entropy(output, target, **options)


def require_scalar(loss: Any) -> Tensor:
    """The loss of a microbatch; UsageError for what a backward pass cannot begin from."""
    if isinstance(loss, Tensor) and loss.numel() == 1:
        return loss
    found = f"a tensor of shape {tuple(loss.shape)}" if isinstance(loss, Tensor) else f"{loss!r}"
    hint = "reduce it, as in loss.mean(); torch's losses do it with reduction: mean, their default"
    raise UsageError(f"expected a scalar loss, found {found}", hint)

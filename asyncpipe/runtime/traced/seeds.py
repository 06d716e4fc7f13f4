"""The gradients that come from the stage above, in the strides that a trace expects."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from asyncpipe.runtime.traced.joint import Joint, Strides

__all__ = ["in_strides", "other_strides"]


def other_strides(joint: Joint, gradients: Sequence[Tensor | None]) -> Strides:
    """The strides of all gradients, if those of some are not what the trace expects; else nothing."""
    pairs = [(i, seed.meta["val"], gradients[i]) for i, seed in enumerate(joint.seeds) if seed is not None]
    if all(gradient is None or _same(like, gradient) for _, like, gradient in pairs):
        return {}
    return {i: (like if gradient is None else gradient).stride() for i, like, gradient in pairs}


def in_strides(joint: Joint, gradients: Sequence[Tensor | None]) -> list[Tensor | None]:
    """Copies of those in other strides, and zeros for those that are missing; None where the trace takes none."""
    pairs = zip(joint.seeds, gradients, strict=True)
    return [None if seed is None else _as(seed.meta["val"], gradient) for seed, gradient in pairs]


def _as(like: Tensor, gradient: Tensor | None) -> Tensor:
    if gradient is not None and _same(like, gradient):
        return gradient
    made = torch.empty_strided(like.shape, like.stride(), dtype=like.dtype, device=like.device)
    return made.zero_() if gradient is None else made.copy_(gradient)


def _same(like: Tensor, other: Tensor) -> bool:
    """Strides of dimensions of size 1 mean nothing."""
    pairs = zip(like.shape, like.stride(), other.stride(), strict=True)
    return all(size == 1 or expected == found for size, expected, found in pairs)

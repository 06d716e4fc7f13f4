"""Optimizer state in the layout of an arena, in dtypes of its own."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor

from asyncpipe.runtime.arena import Arena, Layout

__all__ = ["StateArena", "same", "widened"]


class StateArena:
    """Zeros: `flat` by the dtype of the parameters, `views` in their order; dtypes of `dtype_of` (None: not kept)."""

    def __init__(self, layout: Layout, dtype_of: Callable[[torch.dtype], torch.dtype | None]) -> None:
        self.flat: dict[torch.dtype, Tensor] = {}
        self.views: dict[int, Tensor] = {}
        for dtype, length in layout.lengths.items():
            chosen = [i for i, place in enumerate(layout.places) if place.dtype == dtype]
            kept = dtype_of(dtype)
            if kept is not None:
                places = tuple(replace(layout.places[i], dtype=kept) for i in chosen)
                part = Arena(Layout(places, {}, {kept: length}, layout.device))
                self.flat[dtype] = part.flat[kept]
                self.views |= dict(zip(chosen, part.views, strict=True))

    @property
    def bytes(self) -> int:
        """The size of the storage in bytes, padding included."""
        return sum(flat.nbytes for flat in self.flat.values())


def same(dtype: torch.dtype) -> torch.dtype:
    """As torch.optim keeps its state."""
    return dtype


def widened(dtype: torch.dtype) -> torch.dtype:
    """Single precision for half precision: with betas near 1 a moment of eight bits stands still."""
    return torch.promote_types(dtype, torch.float32)

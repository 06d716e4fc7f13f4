"""Gradients that arrive as separate tensors: a table of blocks, made once, and of addresses, made when they change."""

from __future__ import annotations

import itertools
from collections import OrderedDict
from collections.abc import Sequence

import torch
from torch import Tensor

from asyncpipe.kernels.fused.checks import ALIGNMENT, FLOATS, problem_of
from asyncpipe.kernels.fused.grid import BLOCK
from asyncpipe.kernels.fused.issuing import ADDRESSES

__all__ = ["GradientTable"]

KEPT = 64
"""Address lists kept on the device: allocators cycle through a few."""


class GradientTable:
    """Where the tensors of an arena lie: `starts` and `lengths` in elements, starts at multiples of 16.

    Only the tensors named here are updated; what lies between them in the arena is left alone.
    """

    def __init__(self, starts: Sequence[int], lengths: Sequence[int], device: torch.device, block: int = BLOCK) -> None:
        places = list(zip(starts, lengths, strict=True))
        wrong = [start for start, _ in places if start % ALIGNMENT or start < 0]
        if wrong:
            raise ValueError(f"expected tensors that start at multiples of {ALIGNMENT} elements, found {wrong}")
        ends = sorted((start, start + length) for start, length in places if length)
        shared = [after for (_, end), (after, _) in itertools.pairwise(ends) if after < end]
        if shared:
            raise ValueError(f"expected tensors without common elements, found ones that start inside others: {shared}")
        self.lengths = tuple(lengths)
        self.end = max((start + length for start, length in places), default=0)
        self.block = block
        rows = [_rows(index, start, length, block) for index, (start, length) in enumerate(places)]
        self.blocks = torch.cat([torch.empty((0, 4), dtype=torch.int64), *rows]).to(device)
        # With its index: "cuda" is no tensor's device.
        self.device = self.blocks.device
        self._kept: OrderedDict[tuple[int, ...], tuple[Tensor, Tensor]] = OrderedDict()

    def addresses(self, gradients: Sequence[Tensor | None], dtype: torch.dtype) -> Tensor:
        """Where each gradient starts, int64 on the device; 0 for None. ValueError for one that does not fit."""
        if len(gradients) != len(self.lengths):
            raise ValueError(f"expected {len(self.lengths)} gradients, found {len(gradients)}")
        dtypes = (dtype,) if dtype in FLOATS else FLOATS
        problems = [
            problem
            for index, (gradient, length) in enumerate(zip(gradients, self.lengths, strict=True))
            if gradient is not None
            for problem in problem_of(f"gradient {index}", gradient, length, self.device, dtypes)
        ]
        if problems:
            raise ValueError("; ".join(problems))
        return self._upload(tuple(0 if g is None or not g.numel() else g.data_ptr() for g in gradients))

    def _upload(self, addresses: tuple[int, ...]) -> Tensor:
        captured = ADDRESSES.get()
        if captured is not None:
            return captured.take(addresses)
        if addresses not in self._kept:
            # Pinned, so that the copy need not wait; kept, so that the memory stays what it was until it has run.
            host = torch.tensor(addresses, dtype=torch.int64, pin_memory=self.device.type == "cuda")
            self._kept[addresses] = (host, host.to(self.device, non_blocking=True))
        self._kept.move_to_end(addresses)
        while len(self._kept) > KEPT:
            self._kept.popitem(last=False)
        return self._kept[addresses][1]


def _rows(index: int, start: int, length: int, block: int) -> Tensor:
    """(tensor, start in the arena, start in the tensor, elements) of each block of one tensor."""
    within = torch.arange(0, length, block)
    counts = torch.clamp(length - within, max=block)
    return torch.stack([torch.full_like(within, index), start + within, within, counts], dim=1)

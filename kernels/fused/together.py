"""Several launches that are one update of a stage: its parameters have several dtypes or histories."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from asyncpipe.kernels.fused.launch import FusedUpdate
from asyncpipe.kernels.fused.table import GradientTable

__all__ = ["Part", "update_together"]


class Part(NamedTuple):
    """One launch, two where the norm is clipped: the arguments of `FusedUpdate.tensors`."""

    update: FusedUpdate
    table: GradientTable
    gradients: Sequence[Tensor | None]
    reads: Tensor | None = None


def update_together(parts: Sequence[Part]) -> None:
    """As `FusedUpdate.tensors` for each, but a clip takes the norm of all their gradients."""
    launches = [(part.update, list(part.update._tensors(part.table, part.gradients, part.reads))) for part in parts]
    for update, (*norms, _) in launches:
        for norm in norms:
            update._run(norm)
    _add([update.counters.norm for update, _ in launches if update.counters.norm is not None])
    for update, (*_, last) in launches:
        update._run(last)


def _add(norms: list[Tensor]) -> None:
    """Each becomes the sum of all: they are squares."""
    if len(norms) > 1:
        total = torch.cat(norms).sum()
        for norm in norms:
            norm.copy_(total)

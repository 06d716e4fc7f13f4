"""Lion, sign descent along an interpolated momentum (Chen et al., arXiv 2302.06675, algorithm 2)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from asyncpipe.kernels.lists import as_real, scale, scaled, signs

__all__ = ["lion"]


def lion(
    parameters: list[Tensor],
    gradients: list[Tensor],
    momenta: list[Tensor],
    steps: Sequence[int],
    *,
    lr: float,
    betas: tuple[float, float] = (0.9, 0.99),
    weight_decay: float = 0.0,
    maximize: bool = False,
) -> None:
    """Update `parameters` in place; momenta start at zero, and `steps` is taken as by all rules but not read.

    Weight decay is decoupled. Complex numbers are pairs, as for Adam. A NaN reaches its parameter, unlike with
    the authors' code, where its sign is 0: the momentum would be NaN and the parameter stand still ever after.
    """
    if not parameters:
        return
    parameters, gradients, momenta = map(as_real, (parameters, gradients, momenta))
    directions = list(torch._foreach_neg(gradients)) if maximize else gradients
    interpolated = scaled(momenta, betas[0])
    torch._foreach_add_(interpolated, directions, alpha=1 - betas[0])
    if weight_decay != 0:
        scale(parameters, 1 - lr * weight_decay)
    torch._foreach_add_(parameters, signs(interpolated), alpha=-lr)
    scale(momenta, betas[1])
    torch._foreach_add_(momenta, directions, alpha=1 - betas[1])

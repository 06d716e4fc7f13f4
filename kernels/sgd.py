"""Stochastic gradient descent with momentum, as torch.optim.SGD defines it (Sutskever et al., ICML 2013)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from asyncpipe.kernels.lists import scale

__all__ = ["sgd", "sgd_fused"]


def sgd(
    parameters: list[Tensor],
    gradients: list[Tensor],
    momentum_buffers: list[Tensor],
    steps: Sequence[int],
    *,
    lr: float,
    momentum: float = 0.0,
    dampening: float = 0.0,
    weight_decay: float = 0.0,
    nesterov: bool = False,
    maximize: bool = False,
) -> None:
    """Update `parameters` in place; `steps` counts each one's updates, this one included.

    `momentum_buffers` may be empty where momentum is 0; what they hold before step 1 is never read.
    """
    if not parameters:
        return
    directions = list(torch._foreach_neg(gradients)) if maximize else gradients
    if weight_decay != 0:
        directions = list(torch._foreach_add(directions, parameters, alpha=weight_decay))
    if momentum != 0:
        _gather_momentum(momentum_buffers, directions, steps, momentum, dampening)
        ahead = torch._foreach_add(directions, momentum_buffers, alpha=momentum) if nesterov else ()
        directions = list(ahead) if nesterov else momentum_buffers
    torch._foreach_add_(parameters, directions, alpha=-lr)


def sgd_fused(
    parameters: list[Tensor],
    gradients: list[Tensor],
    momentum_buffers: list[Tensor],
    steps: Sequence[int],
    *,
    lr: float,
    momentum: float = 0.0,
    dampening: float = 0.0,
    weight_decay: float = 0.0,
    nesterov: bool = False,
    maximize: bool = False,
) -> None:
    """`sgd` in one pass over memory; a few last bits differ from it.

    Each gradient must have its parameter's strides: torch's kernel walks both as plain arrays.
    """
    for is_first_step, chosen in zip((True, False), _split_first(steps), strict=True):
        if chosen:
            torch._fused_sgd_(
                [parameters[i] for i in chosen],
                [gradients[i] for i in chosen],
                [momentum_buffers[i] for i in chosen] if momentum != 0 else [],
                weight_decay=weight_decay,
                momentum=momentum,
                lr=lr,
                dampening=dampening,
                nesterov=nesterov,
                maximize=maximize,
                is_first_step=is_first_step and momentum != 0,
            )


def _gather_momentum(
    buffers: list[Tensor], directions: list[Tensor], steps: Sequence[int], momentum: float, dampening: float
) -> None:
    first, later = _split_first(steps)
    if first:
        # The first direction is taken whole: dampening begins at the second.
        torch._foreach_copy_([buffers[i] for i in first], [directions[i] for i in first])
    if later:
        old = [buffers[i] for i in later]
        scale(old, momentum)
        torch._foreach_add_(old, [directions[i] for i in later], alpha=1 - dampening)


def _split_first(steps: Sequence[int]) -> tuple[list[int], list[int]]:
    """Positions at their first step, and the others."""
    first = [i for i, step in enumerate(steps) if step == 1]
    later = [i for i, step in enumerate(steps) if step != 1]
    return first, later

"""Stochastic gradient descent with momentum, as torch.optim.SGD defines it (Sutskever et al., ICML 2013)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from asyncpipe.kernels.lists import scale, scaled
from asyncpipe.kernels.transforms import spike_coefficients

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
    delay: float = 0.0,
) -> None:
    """Update `parameters` in place; `steps` counts each one's updates, this one included.

    `momentum_buffers` may be empty where momentum is 0; what they hold before step 1 is never read. `delay` is the
    gradients' in updates, made up for by spike compensation (arXiv 2003.11666): 0 is plain SGD. ValueError where
    that has no meaning.
    """
    if delay != 0:
        _require_plain_momentum(momentum, dampening, nesterov)
    if not parameters:
        return
    directions = list(torch._foreach_neg(gradients)) if maximize else gradients
    if weight_decay != 0:
        directions = list(torch._foreach_add(directions, parameters, alpha=weight_decay))
    if momentum != 0:
        _gather_momentum(momentum_buffers, directions, steps, momentum, dampening)
        directions = _look_ahead(momentum_buffers, directions, momentum, nesterov, delay)
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


def _look_ahead(
    buffers: list[Tensor], directions: list[Tensor], momentum: float, nesterov: bool, delay: float
) -> list[Tensor]:
    """What to step along: the velocity, Nesterov's mixture of it with the gradient, or the delayed gradient's."""
    if nesterov:
        return list(torch._foreach_add(directions, buffers, alpha=momentum))
    if delay == 0:
        return buffers
    by_velocity, by_gradient = spike_coefficients(momentum, delay)
    ahead = scaled(buffers, by_velocity)
    torch._foreach_add_(ahead, directions, alpha=by_gradient)
    return ahead


def _require_plain_momentum(momentum: float, dampening: float, nesterov: bool) -> None:
    if nesterov or dampening != 0 or not 0 < momentum < 1:
        raise ValueError(
            "spike compensation needs a momentum between 0 and 1, no dampening and no nesterov, "
            f"found momentum {momentum}, dampening {dampening}, nesterov {nesterov}"
        )


def _split_first(steps: Sequence[int]) -> tuple[list[int], list[int]]:
    """Positions at their first step, and the others."""
    first = [i for i, step in enumerate(steps) if step == 1]
    later = [i for i, step in enumerate(steps) if step != 1]
    return first, later

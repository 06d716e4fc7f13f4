"""Adam (arXiv 1412.6980), AMSGrad (ICLR 2018) and AdamW (arXiv 1711.05101), as torch.optim defines them."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from asyncpipe.kernels.lists import as_real, scale

__all__ = ["adam", "adam_fused"]


def adam(
    parameters: list[Tensor],
    gradients: list[Tensor],
    first_moments: list[Tensor],
    second_moments: list[Tensor],
    largest_second_moments: list[Tensor],
    steps: Sequence[int],
    *,
    lr: float,
    betas: tuple[float, float] = (0.9, 0.999),
    eps: float = 1e-8,
    weight_decay: float = 0.0,
    decoupled_weight_decay: bool = False,
    amsgrad: bool = False,
    maximize: bool = False,
) -> None:
    """Update `parameters` in place; `steps` counts each one's updates, this one included.

    `largest_second_moments` may be empty without `amsgrad`; every state starts at zero.
    """
    if not parameters:
        return
    directions = list(torch._foreach_neg(gradients)) if maximize else gradients
    if weight_decay != 0 and decoupled_weight_decay:
        scale(parameters, 1 - lr * weight_decay)
    elif weight_decay != 0:
        directions = list(torch._foreach_add(directions, parameters, alpha=weight_decay))
    # Only now: torch.optim decays complex weights as complex numbers.
    parameters, directions, first, second, largest = map(
        as_real, (parameters, directions, first_moments, second_moments, largest_second_moments)
    )
    torch._foreach_lerp_(first, directions, 1 - betas[0])
    scale(second, betas[1])
    torch._foreach_addcmul_(second, directions, directions, 1 - betas[1])
    if amsgrad:
        torch._foreach_maximum_(largest, second)
    denominators = list(torch._foreach_sqrt(largest if amsgrad else second))
    torch._foreach_div_(denominators, [(1 - betas[1] ** step) ** 0.5 for step in steps])
    torch._foreach_add_(denominators, eps)
    step_sizes = [-(lr / (1 - betas[0] ** step)) for step in steps]
    torch._foreach_addcdiv_(parameters, first, denominators, step_sizes)


def adam_fused(
    parameters: list[Tensor],
    gradients: list[Tensor],
    first_moments: list[Tensor],
    second_moments: list[Tensor],
    largest_second_moments: list[Tensor],
    steps: Sequence[int],
    *,
    lr: float,
    betas: tuple[float, float] = (0.9, 0.999),
    eps: float = 1e-8,
    weight_decay: float = 0.0,
    decoupled_weight_decay: bool = False,
    amsgrad: bool = False,
    maximize: bool = False,
) -> None:
    """`adam` in one pass over memory, for real dtypes; a few last bits differ from it.

    Each gradient must have its parameter's strides: torch's kernel walks both as plain arrays.
    """
    if not parameters:
        return
    update = torch._fused_adamw_ if decoupled_weight_decay else torch._fused_adam_
    update(
        parameters,
        gradients,
        first_moments,
        second_moments,
        largest_second_moments if amsgrad else [],
        list(torch.tensor(steps, dtype=torch.float32, device=parameters[0].device).unbind()),
        lr=lr,
        beta1=betas[0],
        beta2=betas[1],
        weight_decay=weight_decay,
        eps=eps,
        amsgrad=amsgrad,
        maximize=maximize,
    )

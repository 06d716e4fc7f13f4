"""Adam with Nesterov momentum (Dozat, ICLR 2016 workshop), as torch.optim.NAdam defines it."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from asyncpipe.kernels.lists import as_real, scale

__all__ = ["nadam"]


def nadam(
    parameters: list[Tensor],
    gradients: list[Tensor],
    first_moments: list[Tensor],
    second_moments: list[Tensor],
    momentum_products: list[Tensor],
    steps: Sequence[int],
    *,
    lr: float,
    betas: tuple[float, float] = (0.9, 0.999),
    eps: float = 1e-8,
    weight_decay: float = 0.0,
    momentum_decay: float = 4e-3,
    decoupled_weight_decay: bool = False,
    maximize: bool = False,
) -> None:
    """Update `parameters` in place; `steps` counts each one's updates, this one included.

    Moments start at zero. `momentum_products` are scalars on the CPU that start at one: the product of all mu
    so far, in the precision that torch.optim keeps it in.
    """
    if not parameters:
        return
    parameters, gradients, first, second = map(as_real, (parameters, gradients, first_moments, second_moments))
    directions = list(torch._foreach_neg(gradients)) if maximize else gradients
    if weight_decay != 0 and decoupled_weight_decay:
        scale(parameters, 1 - lr * weight_decay)
    elif weight_decay != 0:
        directions = list(torch._foreach_add(directions, parameters, alpha=weight_decay))
    torch._foreach_lerp_(first, directions, 1 - betas[0])
    scale(second, betas[1])
    torch._foreach_addcmul_(second, directions, directions, 1 - betas[1])
    denominators = list(torch._foreach_div(second, [1 - betas[1] ** step for step in steps]))
    torch._foreach_sqrt_(denominators)
    torch._foreach_add_(denominators, eps)
    by_gradient, by_moment = _step_sizes(momentum_products, steps, lr, betas[0], momentum_decay)
    torch._foreach_addcdiv_(parameters, directions, denominators, by_gradient)
    torch._foreach_addcdiv_(parameters, first, denominators, by_moment)


def _step_sizes(
    products: list[Tensor], steps: Sequence[int], lr: float, beta: float, decay: float
) -> tuple[list[float], list[float]]:
    """Multiply this step's mu into `products`; the factors of the gradient and of the first moment."""
    by_gradient, by_moment = [], []
    for product, step in zip(products, steps, strict=True):
        mu, mu_next = (beta * (1.0 - 0.5 * 0.96 ** (at * decay)) for at in (step, step + 1))
        product *= mu
        so_far = product.item()
        by_gradient.append(-lr * (1.0 - mu) / (1.0 - so_far))
        by_moment.append((-lr * mu_next) / (1.0 - so_far * mu_next))
    return by_gradient, by_moment

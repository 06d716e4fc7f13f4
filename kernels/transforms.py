"""Gradient transforms against staleness, and weights as they will be or were, over lists of tensors.

The reference of the fused kernels, and what the CPU runs. Tensors of a list may differ in float dtype, lists may be
empty. Gradients and parameters never change in place.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

__all__ = [
    "clip_norm",
    "compensate_delay",
    "corrected",
    "drift",
    "drift_decay",
    "predict",
    "shrink",
    "spike_coefficients",
    "staleness_rate",
]


def shrink(gradients: list[Tensor], factor: float) -> list[Tensor]:
    """Gradient shrinking (FDG, arXiv 1906.09108): factor * g."""
    return [factor * gradient for gradient in gradients]


def clip_norm(gradients: list[Tensor], limit: float) -> list[Tensor]:
    """Scaled so that the 2-norm over the whole list is at most `limit`, as by torch.nn.utils.clip_grad_norm_."""
    norm = torch.nn.utils.get_total_norm(gradients)
    factor = (limit / (norm + 1e-6)).clamp(max=1.0)
    return [gradient * factor for gradient in gradients]


def compensate_delay(
    gradients: list[Tensor], parameters: list[Tensor], read: list[Tensor], strength: float
) -> list[Tensor]:
    """DC-ASGD (arXiv 1609.08326, eq. 10): g + strength * g * g * (w - w_read), `read` as the forward read it."""
    lists = zip(gradients, parameters, read, strict=True)
    return [g + strength * g * g * (w - w_read) for g, w, w_read in lists]


def staleness_rate(lr: float, staleness: float, power: float) -> float:
    """PipeMare T1 (arXiv 1910.05124): lr / staleness**power where the staleness, in updates, is above 1."""
    divisor: float = max(1.0, staleness) ** power
    return lr / divisor


def spike_coefficients(momentum: float, delay: float) -> tuple[float, float]:
    """Spike compensation (arXiv 2003.11666): the factors of velocity and gradient, delayed by `delay` updates.

    They give a gradient at once the weight that it would have gathered had it come in time.
    """
    if not (0 <= momentum < 1 and delay >= 0):
        raise ValueError(f"expected a momentum in [0, 1) and a delay of at least 0, found {momentum} and {delay}")
    kept = momentum**delay
    return kept, (1 - kept) / (1 - momentum)


def predict(parameters: list[Tensor], directions: list[Tensor], lr: float, horizon: float) -> list[Tensor]:
    """Weights `horizon` updates ahead (SpecTrain, arXiv 1809.02839; XPipe, 1911.04610): w - lr * horizon * v.

    `directions` is what one update subtracts per unit of lr: SGD's velocity, or Adam's step with its bias corrected.
    """
    lists = zip(parameters, directions, strict=True)
    return [parameter.add(direction, alpha=-lr * horizon) for parameter, direction in lists]


def drift(drifts: list[Tensor], old: list[Tensor], new: list[Tensor], decay: float) -> None:
    """PipeMare T2, in place: d <- decay * d + (1 - decay) * (w_new - w_old), the mean change per update."""
    for kept, before, after in zip(drifts, old, new, strict=True):
        kept.mul_(decay).add_(after - before, alpha=1 - decay)


def corrected(parameters: list[Tensor], drifts: list[Tensor], horizon: float) -> list[Tensor]:
    """PipeMare T2: w - horizon * d, about the weights that the forward read `horizon` updates ago."""
    return [parameter.add(kept, alpha=-horizon) for parameter, kept in zip(parameters, drifts, strict=True)]


def drift_decay(forward_delay: float, backward_delay: float, base: float = math.exp(-2)) -> float:
    """PipeMare T2: base**(1 / (tau_f - tau_b)), delays in updates; 0, the last change alone, where they are equal."""
    if not (0 < base < 1 and forward_delay >= backward_delay):
        raise ValueError(
            f"expected a base in (0, 1) and a forward delayed no less than its backward, "
            f"found base {base}, delays {forward_delay} and {backward_delay}"
        )
    gap = forward_delay - backward_delay
    return base ** (1 / gap) if gap > 0 else 0.0

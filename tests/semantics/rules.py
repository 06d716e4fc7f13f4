"""Update rules against staleness, written from their papers in plain torch."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from tests.semantics.plain import Rule

__all__ = ["spike"]


def spike(lr: float, momentum: float, delays: Sequence[int]) -> Rule:
    """v <- m v + g; w <- w - lr (a v + b g), a = m^D, b = (1 - m^D) / (1 - m) (arXiv 2003.11666)."""

    def rule(stage: int, parameters: list[nn.Parameter]) -> Callable[[Sequence[Tensor]], None]:
        velocities = [torch.zeros_like(p) for p in parameters]
        kept = momentum ** delays[stage]
        gained = sum(momentum**i for i in range(delays[stage]))

        def apply(gradients: Sequence[Tensor]) -> None:
            for i, gradient in enumerate(gradients):
                velocities[i] = momentum * velocities[i] + gradient
                parameters[i].data -= lr * (kept * velocities[i] + gained * gradient)

        return apply

    return rule

"""The numbers of an update that live on the device: a captured CUDA graph follows them without a new capture."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

import torch
import triton.language as tl
from torch import Tensor

__all__ = ["SCALARS", "Scalars"]

LR = tl.constexpr(0)
SCALE = tl.constexpr(1)
WEIGHT_DECAY = tl.constexpr(2)
BETA1 = tl.constexpr(3)
BETA2 = tl.constexpr(4)
EPS = tl.constexpr(5)
DAMPENING = tl.constexpr(6)
MOMENTUM_DECAY = tl.constexpr(7)
SHRINK = tl.constexpr(8)
CLIP_NORM = tl.constexpr(9)
DELAY_COMPENSATION = tl.constexpr(10)
STALENESS = tl.constexpr(11)
STALENESS_POWER = tl.constexpr(12)
HORIZON = tl.constexpr(13)
DRIFT_DECAY = tl.constexpr(14)
DRIFT_HORIZON = tl.constexpr(15)

SCALARS: Mapping[str, tuple[tl.constexpr, float]] = MappingProxyType(
    {
        "lr": (LR, 0.0),
        "scale": (SCALE, 1.0),
        "weight_decay": (WEIGHT_DECAY, 0.0),
        "beta1": (BETA1, 0.0),
        "beta2": (BETA2, 0.0),
        "eps": (EPS, 0.0),
        "dampening": (DAMPENING, 0.0),
        "momentum_decay": (MOMENTUM_DECAY, 0.0),
        "shrink": (SHRINK, 1.0),
        "clip_norm": (CLIP_NORM, 0.0),
        "delay_compensation": (DELAY_COMPENSATION, 0.0),
        "staleness": (STALENESS, 0.0),
        "staleness_power": (STALENESS_POWER, 0.0),
        "horizon": (HORIZON, 0.0),
        "drift_decay": (DRIFT_DECAY, 0.0),
        "drift_horizon": (DRIFT_HORIZON, 0.0),
    }
)
"""Place and first value of each; `beta1` is also the momentum of sgd, `scale` multiplies every gradient."""


class Scalars:
    """Sixteen float64 numbers on one device.

    Double precision, because 1 - beta2 loses half of its digits in single precision: torch.optim computes such
    factors in Python.
    """

    def __init__(self, device: torch.device, **values: float) -> None:
        first = [value for _, value in SCALARS.values()]
        self.tensor = torch.tensor(first, dtype=torch.float64, device=device)
        self.set(**values)

    def set(self, **values: float) -> None:
        """Change some, in the order of the current stream; KeyError for an unknown name."""
        for name, value in values.items():
            self.view(name).fill_(value)

    def view(self, name: str) -> Tensor:
        """One of them as a tensor without dimensions that shares its memory."""
        return self.tensor[SCALARS[name][0].value]

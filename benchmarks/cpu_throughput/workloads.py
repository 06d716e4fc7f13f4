"""The four networks of the comparison, with one batch of random data each: a small recurrent, a wide, a convolutional
and a deep narrow one."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from asyncpipe import models

__all__ = ["WORKLOADS", "Workload"]


@dataclass(frozen=True)
class Workload:
    name: str
    build: Callable[[], nn.Module]
    input_shape: tuple[int, ...]
    classes: int = 10

    def batch(self) -> tuple[Tensor, Tensor]:
        generator = torch.Generator().manual_seed(0)
        inputs = torch.randn(self.input_shape, generator=generator)
        return inputs, torch.randint(self.classes, (self.input_shape[0],), generator=generator)


def _mlp() -> nn.Module:
    """Six layers of 1024: matrix products of some milliseconds."""
    return models.build("mlp", {"hidden": [1024] * 5}, (784,), 10)


def _convnet() -> nn.Module:
    """Three convolutions on 32 x 32 images, the second with stride 2."""
    blocks = [(3, 32, 1), (32, 64, 2), (64, 64, 2)]
    parts: list[tuple[str, nn.Module]] = []
    for i, (inputs, outputs, stride) in enumerate(blocks):
        parts += [(f"conv{i}", nn.Conv2d(inputs, outputs, 3, stride, 1)), (f"relu{i}", nn.ReLU())]
    return nn.Sequential(OrderedDict([*parts, ("flatten", nn.Flatten()), ("head", nn.Linear(4096, 10))]))


WORKLOADS = {
    w.name: w
    for w in (
        Workload("lstm", lambda: models.build("lstm", {"hidden": 128}, (1, 50, 64), 10), (32, 1, 50, 64)),
        Workload("mlp", _mlp, (128, 784)),
        Workload("convnet", _convnet, (32, 3, 32, 32)),
        Workload("deep-narrow", lambda: models.build("deep-narrow", {}, (784,), 10), (32, 784)),
    )
}
"""lstm: 2 x 128 over 50 steps; deep-narrow: 40 x 128 with LayerNorm. Float32, SGD with momentum 0.9 everywhere."""

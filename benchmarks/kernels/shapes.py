"""The parameter tensors that are updated: the 62 of ResNet-18, and even cuts of a million and of a hundred million."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TypeAlias

__all__ = ["ALIGNED", "RESNET18", "SHAPES", "SMOKE_SHAPES", "lengths_of", "starts_of"]

Shape: TypeAlias = tuple[int, ...]
ALIGNED = 16
"""Elements: tensors start at multiples of it in an arena."""

RESNET18: tuple[Shape, ...] = (
    (64, 3, 7, 7), (64,), (64,),
    (64, 64, 3, 3), (64,), (64,), (64, 64, 3, 3), (64,), (64,),
    (64, 64, 3, 3), (64,), (64,), (64, 64, 3, 3), (64,), (64,),
    (128, 64, 3, 3), (128,), (128,), (128, 128, 3, 3), (128,), (128,), (128, 64, 1, 1), (128,), (128,),
    (128, 128, 3, 3), (128,), (128,), (128, 128, 3, 3), (128,), (128,),
    (256, 128, 3, 3), (256,), (256,), (256, 256, 3, 3), (256,), (256,), (256, 128, 1, 1), (256,), (256,),
    (256, 256, 3, 3), (256,), (256,), (256, 256, 3, 3), (256,), (256,),
    (512, 256, 3, 3), (512,), (512,), (512, 512, 3, 3), (512,), (512,), (512, 256, 1, 1), (512,), (512,),
    (512, 512, 3, 3), (512,), (512,), (512, 512, 3, 3), (512,), (512,),
    (1000, 512), (1000,),
)  # fmt: skip
"""He et al., arXiv 1512.03385, as torchvision.models.resnet18 orders them: a row is a block, downsampling last."""


def lengths_of(shapes: Sequence[Shape]) -> list[int]:
    return [math.prod(shape) for shape in shapes]


def starts_of(lengths: Sequence[int]) -> tuple[list[int], int]:
    """Where each tensor starts in an arena, and the arena's length; elements."""
    starts, end = [], 0
    for length in lengths:
        starts.append(end)
        end += -(-length // ALIGNED) * ALIGNED
    return starts, end


assert len(RESNET18) == 62
assert sum(lengths_of(RESNET18)) == 11_689_512

SHAPES: dict[str, tuple[Shape, ...]] = {
    "1e6": ((100_000,),) * 10,
    "1.1e7": RESNET18,
    "1e8": ((1_000_000,),) * 100,
}
SMOKE_SHAPES: dict[str, tuple[Shape, ...]] = {"tiny": ((3, 5), (7,), (2, 3, 4))}

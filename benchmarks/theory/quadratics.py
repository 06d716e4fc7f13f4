"""A network whose stages are independent quadratics, many gains each: stability on the real runtime in one run.

Stage s adds its parameters to row s of its input, which is zero; the loss is sum(curvature / 2 * output ** 2). The
gradient of a parameter is its curvature times what its forward read, whatever other stages do.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from asyncpipe import Trainer
from asyncpipe.schedule import Schedule

__all__ = ["Row", "growing"]


class Row(nn.Module):
    """Adds `width` parameters, all 1 at first, to one row of a batch (1, rows, width)."""

    def __init__(self, row: int, width: int) -> None:
        super().__init__()
        self.row = row
        self.offset = nn.Parameter(torch.ones(width, dtype=torch.float64))

    def forward(self, x: Tensor) -> Tensor:
        shown = torch.zeros_like(x)
        shown[:, self.row] = self.offset
        return x + shown


def growing(schedule: str | Schedule, gains: Tensor, optimizer: dict[str, Any], microbatches: int) -> Tensor:
    """Whether each of `gains` (stages, width), as lr * curvature, swings wider at last than in the middle: bool."""
    stages, width = gains.shape
    read: list[Tensor] = []

    def loss(output: Tensor, target: Tensor) -> Tensor:
        read.append(output.detach()[0].abs())
        return (gains / 2 * output**2).sum()

    model = nn.Sequential(*(Row(row, width) for row in range(stages)))
    trainer = Trainer(model, schedule, loss, {"lr": 1.0, **optimizer}, "serial", stages)
    nothing = torch.zeros(1, stages, width, dtype=torch.float64)
    trainer.fit([(nothing, nothing)] * microbatches)
    quarter = len(read) // 4
    swings = torch.stack(read)
    return swings[3 * quarter :].amax(0) > swings[quarter : 2 * quarter].amax(0)

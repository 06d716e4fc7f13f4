"""What takes part: something that trains on the batches of a problem, update after update."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import torch
from torch import Tensor

from asyncpipe.tools.bench.problem import Batch, Problem

__all__ = ["Contender", "Stepwise", "take"]

Losses = list[Tensor | float]


class Contender(Protocol):
    def train(self, updates: int, keep: Losses | None = None) -> None:
        """Makes so many updates, on the batches that follow; appends their losses to `keep`, or none at all.

        On CUDA the work is issued; the caller waits for the device.
        """


class Stepwise:
    """One call of `step` for each update. threads: torch's intra-op threads meanwhile."""

    def __init__(self, problem: Problem, step: Callable[[Batch], Tensor], threads: int | None = None) -> None:
        self._batches = problem.stream()
        self._step = step
        self._threads = threads

    def train(self, updates: int, keep: Losses | None = None) -> None:
        if self._threads is not None:
            torch.set_num_threads(self._threads)
        for _ in range(updates):
            loss = self._step(next(self._batches))
            if keep is not None:
                keep.append(loss.detach().clone())


def take(losses: Losses) -> list[float]:
    """As numbers; waits for the device."""
    return [float(loss) for loss in losses]

"""The delay curve in real time: the `threads` back end, real delays, and a model whose computations are sleeps.

So the machine's cores and whatever else they do hardly matter: what is measured is who waits for whom.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import repeat
from typing import Any

import torch
from contestants import Contestant
from journal import Journal
from observed import STAGES
from torch import Tensor, nn
from torch.nn.functional import mse_loss

from asyncpipe import Trainer
from asyncpipe.ir import Action, Op

__all__ = ["RealRates"]

STAGE_SECONDS = 0.2
"""Forward of one stage; its backward takes twice as long."""
LONGEST_STEP = 3


class _Sleep(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, value: Tensor) -> Tensor:
        time.sleep(STAGE_SECONDS)
        return value.clone()

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:  # type: ignore[override]
        time.sleep(2 * STAGE_SECONDS)
        return gradient


class _SleepingLayer(nn.Module):
    """One weight, so that a stage has something to update."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(1))

    def forward(self, value: Tensor) -> Tensor:
        slept: Tensor = _Sleep.apply(value * self.weight)
        return slept


@dataclass(frozen=True)
class RealRates:
    """Measured over `steps` undelayed steps, by way of the journal."""

    journal: Journal
    steps: int

    def point(self, contestant: Contestant, delay: float) -> dict[str, float]:
        """Microbatches per T, by closed form and in the run."""
        key = {"real": contestant.name, "delay": delay, "steps": self.steps, "stage_seconds": STAGE_SECONDS}
        return self.journal.get(key, lambda: self._run(contestant, delay))

    def _run(self, contestant: Contestant, delay: float) -> dict[str, float]:
        found = {"closed_form": contestant.rate(delay), "run": _rate(contestant, delay, self.steps)}
        print(f"{contestant.name} on threads, delay {delay:g}T: {found['run']:.3f} microbatches per T", flush=True)
        return found

    def points(self, contestants: Sequence[Contestant], delays: Sequence[float]) -> dict[str, dict[float, Any]]:
        """By method and delay."""
        return {c.name: {delay: self.point(c, delay) for delay in delays} for c in contestants}


def _rate(contestant: Contestant, delay: float, steps: int) -> float:
    seconds = STAGES * STAGE_SECONDS
    schedule = contestant.schedule()
    starts: list[float] = []

    def hook(stream: int, action: Action) -> None:
        if (action.op, action.stage) == (Op.F, STAGES - 1):
            starts.append(time.perf_counter())

    model = nn.Sequential(*(_SleepingLayer() for _ in range(STAGES)))
    late = {contestant.late: f"{delay * seconds}s"} if delay else {}
    optimizer = {"use": "sgd", "lr": 1e-6}
    trainer = Trainer(model, schedule, mse_loss, optimizer, "threads", STAGES, hook=hook, delays=late)
    window = steps * LONGEST_STEP
    each = round(window * contestant.rate(0.0) / schedule.replicas.count) * schedule.replicas.count
    trainer.fit(repeat((torch.ones(1, 1), torch.zeros(1, 1))), each)
    # The first losses fill the pipeline; when the fastest worker has nothing left, the window is over.
    begin, end = starts[0] + window * seconds / 8, starts[0] + window * seconds * 0.95
    counted = [(start, number) for number, start in enumerate(starts) if begin <= start < end]
    return statistics.linear_regression(*zip(*counted, strict=True)).slope * seconds

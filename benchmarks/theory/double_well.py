"""Many copies of one parameter in a double well, updated asynchronously by the real runtime, and what they settle into.

The loss of a copy is U(theta) + sigma_sgd * xi * theta with xi standard normal, anew for every microbatch, and
U(theta) = theta^2 / 2 - log(cosh(3 theta)) / 3: wells at +-0.995 with a curvature of 0.97, a barrier of 0.27 between
them with a curvature of -2, and walls that stay quadratic, so that nothing overflows below the limit of stability.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from asyncpipe import Trainer
from asyncpipe.ir import Action, Op
from asyncpipe.schedule import Schedule

__all__ = ["BINS", "SPAN", "Observed", "curvature", "gradient", "observe"]

STEEPNESS = 3.0
WELL = 0.9951
SPAN = 3.0
"""The histograms go from -SPAN to SPAN."""
BINS = 120
EVERY = 4
"""Updates between observations: neighbours say nearly the same."""


def gradient(theta: float) -> float:
    return theta - math.tanh(STEEPNESS * theta)


def curvature(theta: float) -> float:
    return 1 - STEEPNESS / math.cosh(STEEPNESS * theta) ** 2


def slope(theta: Tensor) -> Tensor:
    return theta - torch.tanh(STEEPNESS * theta)


class Copies(nn.Module):
    """The parameters (1, copies) themselves, whatever comes in; half of them begin in each well."""

    def __init__(self, copies: int) -> None:
        super().__init__()
        start = torch.full((1, copies), WELL, dtype=torch.float64)
        start[:, ::2] *= -1
        self.theta = nn.Parameter(start)

    def forward(self, x: Tensor) -> Tensor:
        return self.theta + 0 * x


@dataclass
class Observed:
    """Counts over bins of theta: how often it was there, and the sums of delta = U'(theta as read) - U'(theta now)."""

    counts: Tensor = field(default_factory=lambda: torch.zeros(BINS, dtype=torch.float64))
    sums: Tensor = field(default_factory=lambda: torch.zeros(BINS, dtype=torch.float64))
    squares: Tensor = field(default_factory=lambda: torch.zeros(BINS, dtype=torch.float64))

    def add(self, now: Tensor, read: Tensor) -> None:
        bins = ((now + SPAN) * BINS / (2 * SPAN)).long().clamp(0, BINS - 1)
        delta = slope(read) - slope(now)
        self.counts += torch.bincount(bins, minlength=BINS)
        self.sums += torch.bincount(bins, delta, BINS)
        self.squares += torch.bincount(bins, delta**2, BINS)

    @property
    def density(self) -> list[float]:
        found: list[float] = (self.counts / self.counts.sum() * BINS / (2 * SPAN)).tolist()
        return found

    @property
    def bias(self) -> list[float]:
        """E[delta | theta], 0 where nothing was seen."""
        found: list[float] = (self.sums / self.counts.clamp(min=1)).tolist()
        return found

    @property
    def stale_variance(self) -> list[float]:
        """Var[delta | theta], 0 where nothing was seen."""
        mean = self.sums / self.counts.clamp(min=1)
        found: list[float] = (self.squares / self.counts.clamp(min=1) - mean**2).clamp(min=0).tolist()
        return found

    @property
    def sigma_stale(self) -> float:
        """The deviation of delta over everything."""
        total = self.counts.sum()
        return float((self.squares.sum() / total - (self.sums.sum() / total) ** 2).sqrt())

    @property
    def well_variance(self) -> float:
        """The mean of (|theta| - WELL)^2."""
        centres = (torch.arange(BINS, dtype=torch.float64) + 0.5) * 2 * SPAN / BINS - SPAN
        return float((self.counts * (centres.abs() - WELL) ** 2).sum() / self.counts.sum())


def observe(schedule: Schedule, lr: float, sigma: float, updates: int, copies: int, seed: int) -> Observed:
    """Trains `copies` on the serial back end for so many updates, and watches the last three quarters."""
    observed, read = Observed(), dict[int, Tensor]()
    generator = torch.Generator().manual_seed(seed)
    model = Copies(copies)

    def loss(output: Tensor, target: Tensor) -> Tensor:
        read[int(target[0, 0])] = output.detach()[0]
        noise = torch.randn(output.shape, generator=generator, dtype=torch.float64)
        wells = output**2 / 2 - torch.log(torch.cosh(STEEPNESS * output)) / STEEPNESS
        return (wells + sigma * noise * output).sum()

    def watch(stream: int, action: Action) -> None:
        if action.op is Op.U:
            then = read.pop(action.index)
            if action.index > updates // 4 and action.index % EVERY == 0:
                observed.add(model.theta.detach()[0], then)

    options: dict[str, Any] = {"use": "sgd", "lr": lr}
    trainer = Trainer(model, schedule, loss, options, "serial", 1, hook=watch)
    nothing = torch.zeros(1, 1, dtype=torch.float64)
    trainer.fit(((nothing, torch.full((1, 1), m)) for m in range(updates)), updates)
    return observed

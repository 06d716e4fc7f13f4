"""The job that every schedule trains: a small reversible convnet on a part of Fashion-MNIST, or on digits for a try."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count
from pathlib import Path

import torch
from torch import Tensor, nn

from asyncpipe.data import load
from asyncpipe.data.batches import Batches
from asyncpipe.data.dataset import Split
from asyncpipe.models.reversible import ChannelPadding, Coupling, SpaceToDepth
from asyncpipe.schedule import Schedule

__all__ = ["JOBS", "UPDATE_BATCH", "Job", "microbatch_size"]

UPDATE_BATCH = 32
"""Samples whose mean gradient makes one update, under every schedule."""
CHANNELS = 32


@dataclass(frozen=True)
class Job:
    """Samples in memory; `factor` is by how much the network's first layer divides height and width."""

    train: Split
    test: Split
    factor: int

    def model(self, seed: int) -> nn.Sequential:
        """Three reversible blocks, a convolution, a linear layer; five layers, all but the last two with an inverse."""
        torch.manual_seed(seed)
        side = self.train.inputs.shape[-1] // self.factor
        blocks = [Coupling(_branch(CHANNELS // 2), _branch(CHANNELS // 2)) for _ in range(3)]
        head = nn.Linear(CHANNELS * ((side + 1) // 2) ** 2, 10)
        last = nn.Conv2d(CHANNELS, CHANNELS, 3, stride=2, padding=1)
        widen = ChannelPadding(self.factor**2, CHANNELS)
        return nn.Sequential(SpaceToDepth(self.factor), widen, *blocks, last, nn.ReLU(), nn.Flatten(), head)

    def batches(self, size: int, seed: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Endless; the samples come in the same order for every size that divides an epoch."""
        batches = Batches(self.train, size, seed=seed)
        return (batch for epoch in count() for batch in batches.batches(epoch))


def _branch(channels: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(channels, channels, 3, padding=1), nn.ReLU())


def microbatch_size(schedule: Schedule) -> int:
    """The samples of a microbatch, such that each committed update of a schedule averages over UPDATE_BATCH of them."""
    sync = schedule.replicas.sync
    together = schedule.replicas.count if sync is not None and sync.kind == "allreduce" else 1
    parts = schedule.update.every * schedule.update.commit * together
    size, rest = divmod(UPDATE_BATCH, parts)
    if rest or not size:
        raise ValueError(f"{schedule.name}: {parts} microbatches in an update do not divide {UPDATE_BATCH} samples")
    return size


def _fashion_mnist(folder: Path | None) -> Job:
    """The first 4096 training images, all 10,000 for tests; pixels with mean 0 and deviation 1."""
    data = load("fashion-mnist", {} if folder is None else {"root": str(folder)})
    return Job(_normalised(data.train, 4096, 0.286, 0.353), _normalised(data.test, 10_000, 0.286, 0.353), 4)


def _digits(folder: Path | None) -> Job:
    """The images of 8 x 8 that ship with asyncpipe."""
    data = load("digits", {})
    return Job(_normalised(data.train, 1408, 0.3, 0.37), _normalised(data.test, 355, 0.3, 0.37), 2)


def _normalised(split: Split, samples: int, mean: float, deviation: float) -> Split:
    return Split((split.inputs[:samples] - mean).div_(deviation), split.targets[:samples].clone())


JOBS = {"fashion-mnist": _fashion_mnist, "digits": _digits}

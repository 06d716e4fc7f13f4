"""How far the weights move between the forward, the backward and the update of a microbatch: measured, on samples.

theta_F is what the forward of a stage reads at its start, theta_B what its backward reads (at the start of the
backward, or of the recompute in its place), theta_U the live weights that the update meets. Distances are L2 norms
over all parameters of the stage. ||theta_B - theta_F|| biases the gradient (arXiv 2410.05985), ||theta_U - theta_F||
makes it late. Measuring only reads, so that the results of a run do not depend on it.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
from torch import Tensor

from asyncpipe.runtime.arena import Arena

__all__ = ["DivergenceRecord", "DivergenceSampler", "Sample", "norm"]

_GOLDEN = (math.sqrt(5) - 1) / 2
_KEPT = 4
"""Displacements of whole microbatches that are kept, the last ones: each is as large as the model."""


class Sample(NamedTuple):
    """One microbatch at one stage; the norms are L2."""

    microbatch: int
    stage: int
    update: int
    forward_backward: float
    """||theta_B - theta_F||"""
    forward_update: float
    """||theta_U - theta_F||"""
    weights: float
    """||theta_F||"""
    gradient: float
    """||g|| of the microbatch, as its backward gave it"""
    updates_forward_backward: int
    staleness: int
    lr: float


@dataclass
class _Open:
    """A microbatch between its forward and its update."""

    read: Arena
    forward_backward: float = 0.0


class DivergenceSampler:
    """Measures one in `every` microbatches of one replica's run (0: none), each at every stage.

    Its place among its `every` neighbours follows the golden ratio: a fixed one would always hit the same stream of
    a group, or the same kind of update. Like the rest of an execution it needs no lock: the program orders F, B and U.
    """

    def __init__(self, every: int, first: int = 0) -> None:
        self.every = every
        self.first = first
        """How many microbatches came before this run."""
        self.found: list[Sample] = []
        self.displacements: dict[int, dict[int, Arena]] = {}
        """theta_F - theta_U of the last microbatches, by microbatch and stage."""
        self._open: dict[tuple[int, int], _Open] = {}

    def wants(self, microbatch: int) -> bool:
        """Whether a microbatch, counted from the start of this run, is measured."""
        if not self.every:
            return False
        window, place = divmod(self.first + microbatch, self.every)
        return place == int(self.every * (((window + 1) * _GOLDEN) % 1.0))

    def forward(self, stage: int, microbatch: int, read: Arena) -> None:
        """A forward begins, and reads these weights."""
        if self.wants(microbatch):
            self._open[stage, microbatch] = _Open(read.clone())

    def backward(self, stage: int, microbatch: int, read: Arena | None) -> None:
        """A backward begins, and reads these weights; None: those of its forward."""
        held = self._open.get((stage, microbatch))
        if held is not None and read is not None:
            held.forward_backward = norm(flat - held.read.flat[dtype] for dtype, flat in read.flat.items())

    def update(
        self,
        stage: int,
        microbatch: int,
        update: int,
        live: Arena,
        gradients: Sequence[Tensor | None],
        between: int,
        staleness: int,
        lr: float,
    ) -> None:
        """The update of the microbatch is about to change `live`; `between`: updates between its F and its B."""
        held = self._open.pop((stage, microbatch), None)
        if held is None:
            return
        weights, gradient = norm(held.read.flat.values()), norm(g for g in gradients if g is not None)
        moved = self._displacement(stage, microbatch, held.read, live)
        norms = held.forward_backward, moved, weights, gradient
        self.found.append(Sample(self.first + microbatch, stage, update, *norms, between, staleness, lr))

    def _displacement(self, stage: int, microbatch: int, read: Arena, live: Arena) -> float:
        """Keeps theta_F - theta_U in the storage of theta_F; its norm."""
        for dtype, flat in read.flat.items():
            flat.sub_(live.flat[dtype])
        self.displacements.setdefault(microbatch, {})[stage] = read
        for old in sorted(self.displacements)[:-_KEPT]:
            self.displacements.pop(old, None)
        return norm(read.flat.values())


def norm(tensors: Iterable[Tensor]) -> float:
    """The L2 norm of all elements together."""
    return math.hypot(*(float(torch.linalg.vector_norm(tensor)) for tensor in tensors))


@dataclass
class DivergenceRecord:
    """All samples of a training, by stage, and the largest values of whole microbatches (over all their stages)."""

    stages: int = 0
    samples: list[list[Sample]] = field(init=False)
    largest_step: float = 0.0
    """||theta_B - theta_F||"""
    largest_gradient: float = 0.0
    largest_lr: float = 0.0
    most_updates: int = 0
    """Between a forward and its backward."""
    displacements: list[dict[int, Arena]] = field(default_factory=list)
    """theta_F - theta_U by stage, of the last microbatches that were measured."""

    def __post_init__(self) -> None:
        self.samples = [[] for _ in range(self.stages)]

    def add(self, sampler: DivergenceSampler) -> None:
        """What was measured in one replica's run."""
        self.displacements = [*self.displacements, *sampler.displacements.values()][-_KEPT:]
        whole: dict[int, list[Sample]] = {}
        for sample in sampler.found:
            self.samples[sample.stage].append(sample)
            whole.setdefault(sample.microbatch, []).append(sample)
            self.largest_lr = max(self.largest_lr, sample.lr)
            self.most_updates = max(self.most_updates, sample.updates_forward_backward)
        for parts in whole.values():
            self.largest_step = max(self.largest_step, math.hypot(*(part.forward_backward for part in parts)))
            self.largest_gradient = max(self.largest_gradient, math.hypot(*(part.gradient for part in parts)))

    def summary(self) -> dict[str, Any] | None:
        """Lists per stage, null where a stage was not measured; None where none was."""
        if not any(self.samples):
            return None
        found: dict[str, Any] = {"samples": [len(samples) for samples in self.samples]}
        for name in ("forward_backward", "forward_update", "weights", "gradient"):
            values = [[float(getattr(sample, name)) for sample in samples] for samples in self.samples]
            found[name] = [sum(each) / len(each) if each else None for each in values]
            found[f"{name}_max"] = [max(each, default=None) for each in values]
        return found

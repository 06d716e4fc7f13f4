"""Weights that somebody sets between two fits, such as those of a checkpoint, reach all replicas and copies."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from asyncpipe.runtime.replicas import Synchroniser
from asyncpipe.training.replica import Replica

__all__ = ["Mark", "adopt_weights", "mark_of"]

Mark = tuple[tuple[float, float], ...]


def mark_of(replica: Replica) -> Mark:
    """The sum and the norm of each storage: other weights have others, but for a chance in billions."""
    flats = (flat.double() for weights in replica.weights for flat in weights.live.flat.values())
    return tuple((flat.sum().item(), torch.linalg.vector_norm(flat).item()) for flat in flats)


def adopt_weights(replicas: Sequence[Replica], synchroniser: Synchroniser | None) -> None:
    """All replicas go on from the weights of the first, with nothing derived from older ones but optimizer states."""
    first, *others = replicas
    for other in others:
        for own, given in zip(other.weights, first.weights, strict=True):
            own.live.copy_from(given.live)
    for replica in replicas:
        for weights in replica.weights:
            weights.adopted()
    if synchroniser is not None:
        synchroniser.adopt(first.weights)

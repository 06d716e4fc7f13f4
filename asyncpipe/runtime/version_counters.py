"""Versions and staleness of one stage as the device counts them: by kernels, in the order in which these really run."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

__all__ = ["BINS", "DeviceStaleness", "VersionCounters", "counts_in"]

BINS = 128
"""Of staleness 0, 1, 2 ...; the last one takes all that is longer."""


@dataclass(frozen=True, eq=False)
class VersionCounters:
    """version: int64 (1), updates so far. histogram: int64 (bins), how many microbatches had each staleness.

    past: int64 (n), the versions of the old weights that `lag` keeps, at the places where these lie.
    """

    version: Tensor
    histogram: Tensor
    past: Tensor | None = None

    @classmethod
    def on(cls, device: torch.device, past: int = 0) -> VersionCounters:
        """At zero."""
        sizes = (1, BINS, past)
        version, histogram, old = (torch.zeros(size, dtype=torch.int64, device=device) for size in sizes)
        return cls(version, histogram, old if past else None)

    @property
    def tensors(self) -> list[Tensor]:
        """Read and written without order: a forward does not wait for the updates that it counts."""
        return [one for one in (self.version, self.histogram, self.past) if one is not None]

    def found(self, place: int | None) -> Tensor:
        """int64 (1): the version that a forward finds now, or that of the old weights which it reads."""
        return self.version.clone() if self.past is None or place is None else self.past[place : place + 1].clone()

    def keep(self, place: int) -> None:
        """The weights of now lie among the old ones too."""
        if self.past is not None:
            self.past[place : place + 1].copy_(self.version)

    def count(self, reads: Tensor) -> None:
        """An update in plain torch, of microbatches whose forwards found the versions `reads` (n). Never waits."""
        staleness = (self.version - reads).clamp(0, BINS - 1)
        self.histogram.index_add_(0, staleness, torch.ones_like(staleness))
        self.version.add_(1)


@dataclass(frozen=True)
class DeviceStaleness:
    """Of one run, by stage: how many microbatches had each staleness, in all and in launched periods of a graph."""

    everything: Sequence[Counter[int]]
    periods: Sequence[Counter[int]] | None = None


def counts_in(histogram: Sequence[float]) -> Counter[int]:
    """Microbatches by their staleness."""
    return Counter({staleness: int(count) for staleness, count in enumerate(histogram) if count})

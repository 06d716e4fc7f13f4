"""What a `fit` did."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import reduce

from asyncpipe.training.virtual_time import Pace

__all__ = ["FitReport"]


@dataclass(frozen=True)
class FitReport:
    """What one `fit` did: microbatches and updates, samples, seconds, and the loss of every microbatch in order."""

    microbatches: int
    updates: int
    samples: int
    wall_s: float
    losses: tuple[float, ...] = field(repr=False)
    intra_op_threads: int
    virtual_time: float | None = None
    """Cost units that the run took, on a back end with virtual time."""
    pace: Pace | None = None
    """The same in units of T, and the throughput."""

    @property
    def train_loss(self) -> float:
        return sum(self.losses) / len(self.losses)

    @classmethod
    def of(cls, runs: Sequence[FitReport]) -> FitReport:
        """Runs one after another, as one."""
        first, *others = runs
        return first if not others else reduce(cls._with, others, first)

    def _with(self, later: FitReport) -> FitReport:
        known = self.virtual_time is not None and later.virtual_time is not None
        return FitReport(
            self.microbatches + later.microbatches,
            self.updates + later.updates,
            self.samples + later.samples,
            self.wall_s + later.wall_s,
            self.losses + later.losses,
            self.intra_op_threads,
            (self.virtual_time or 0) + (later.virtual_time or 0) if known else None,
            self.pace + later.pace if self.pace and later.pace else None,
        )

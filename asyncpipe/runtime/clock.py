"""When things happen in a run: real seconds since its start, and on `serial` the virtual time."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import NamedTuple

__all__ = ["Moment", "RunClock"]


class Moment(NamedTuple):
    """`seconds` of wall-clock since the run's start; `virtual`: cost units since then, None on real threads."""

    seconds: float
    virtual: float | None


@dataclass
class RunClock:
    """One for all replicas of a run. `virtual` is set by a back end that has virtual time, and by nothing else."""

    start: float = field(default_factory=time.perf_counter)
    virtual: float | None = None

    def now(self) -> Moment:
        return Moment(time.perf_counter() - self.start, self.virtual)

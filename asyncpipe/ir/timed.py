"""A run as it was measured: when each action really began and ended."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from asyncpipe.ir.action import Action
from asyncpipe.ir.program import Program

__all__ = ["DeviceClock", "TimedAction", "TimedRun"]


class TimedAction(NamedTuple):
    """What a stream of a replica did from `begin` to `end`, in seconds since its run began.

    worker: which thread did it, counted from 0 in the order in which they first appear; on a GPU, the stream's number.
    """

    replica: int
    stream: int
    action: Action
    begin: float
    end: float
    worker: int

    @property
    def seconds(self) -> float:
        return self.end - self.begin


@dataclass(frozen=True)
class DeviceClock:
    """What the clock of a GPU can tell, in seconds. step: the smallest there is between two readings.

    stamp: from one stamp to the next where a stream does nothing else; each action has two. between_devices: how far
    the clocks of two GPUs may be apart after they were compared, 0 for one.
    """

    step: float
    stamp: float
    between_devices: float = 0.0


@dataclass(frozen=True)
class TimedRun:
    """One run of a program, in the order in which its actions ended.

    clock: of what timed it, where that was a GPU. multiprocessors: there, of each action those of its two stamps.
    """

    program: Program
    actions: Sequence[TimedAction]
    clock: DeviceClock | None = None
    multiprocessors: Sequence[tuple[int, int]] = ()

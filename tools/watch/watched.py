"""A run directory under observation: each look reads what is new."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from asyncpipe.errors import UsageError
from asyncpipe.tools.watch.gpus import GpuLook, RunGpus
from asyncpipe.tools.watch.rows import RowTail
from asyncpipe.tools.watch.seen import Seen
from asyncpipe.tools.watch.state import METRICS, Plan, State, is_there, read_plan, state_of

__all__ = ["Look", "Watched", "follow"]


@dataclass(frozen=True)
class Look:
    """What is known of a run at one moment.

    elapsed: seconds since it began, None where it is over or that is not known; silence: since its last row. gpus:
    None where it is not known which, empty where it uses none. damaged: rows that cannot be read.
    """

    folder: Path
    state: State
    seen: Seen = field(default_factory=Seen, repr=False)
    plan: Plan | None = None
    elapsed: float | None = None
    silence: float | None = None
    gpus: Sequence[GpuLook] | None = None
    damaged: int = 0

    @property
    def seconds_left(self) -> float | None:
        """Of training at the present speed, evaluations not counted; None for a run that is over, or unknown."""
        speed = self.seen.samples_per_s
        if self.plan is None or self.state.kind != "running" or not speed:
            return None
        return max(0, self.plan.microbatches - self.seen.microbatches) * self.plan.batch / speed


class Watched:
    """Only reads. `gpus` are those of the run; `now` is the time since the epoch."""

    def __init__(self, folder: Path, gpus: RunGpus | None = None, now: Callable[[], float] = time.time) -> None:
        self.folder = folder
        self._gpus, self._now = gpus or RunGpus(), now
        self._tail = RowTail(folder / METRICS)
        self._seen, self._unfit = Seen(), 0
        self._plan: Plan | None = None
        self._begun = False

    def look(self) -> Look:
        """UsageError for what is no run directory, or is one no more."""
        self._begun = self._begun or is_there(self.folder)
        if not self._begun:
            missing = "is empty" if self.folder.exists() else "does not exist"
            return Look(self.folder, State("waiting", f"{self.folder} {missing} yet"))
        self._plan = self._plan or read_plan(self.folder)
        state = state_of(self.folder, self._plan)
        # After the state: the rows of a run that is over are all there.
        self._unfit += sum(not self._seen.add(row) for row in self._tail.new())
        now = self._now()
        return Look(
            self.folder,
            state,
            self._seen,
            self._plan,
            None if self._plan is None or state.is_over else max(0.0, now - self._plan.started),
            max(0.0, now - self._tail.written),
            self._gpus.looks(self._plan, now),
            self._tail.damaged + self._unfit,
        )

    def once(self) -> Look:
        """UsageError also where there is nothing yet."""
        look = self.look()
        if look.state.kind == "waiting":
            raise UsageError(f"{look.state.words}", "without --once, watch waits for it")
        return look


def follow(
    watched: Watched,
    show: Callable[[Look], None],
    every: float,
    wait: float,
    pause: Callable[[float], None] = time.sleep,
) -> Look:
    """Shows a look every so many seconds until the run is over: the last look.

    UsageError where there is still no run after `wait` seconds.
    """
    waited = 0.0
    while True:
        look = watched.look()
        if look.state.kind == "waiting" and waited >= wait:
            raise UsageError(f"no run after {waited:g} s: {look.state.words}", "--wait SECONDS waits longer")
        show(look)
        if look.state.is_over:
            return look
        pause(every)
        waited += every

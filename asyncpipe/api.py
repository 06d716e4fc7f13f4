"""The Python door to the compiler: `asyncpipe.compile(asyncpipe.load("my.yaml"), stages=8)`."""

from __future__ import annotations

from pathlib import Path

from asyncpipe.compiler import compile_schedule
from asyncpipe.ir import Program
from asyncpipe.schedule import Costs, Schedule, load

__all__ = ["compile"]


def compile(
    schedule: Schedule | str | Path,
    stages: int | None = None,
    microbatches: int | None = None,
    costs: Costs | None = None,
) -> Program:
    """The program of a schedule: for `microbatches` of them, or endless. ScheduleError carries every finding."""
    chosen = schedule if isinstance(schedule, Schedule) else load(schedule)
    return compile_schedule(chosen, stages, costs).program(microbatches)

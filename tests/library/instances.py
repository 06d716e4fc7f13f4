"""Compiled instances of the library, and the numbers of stages that each file allows."""

from __future__ import annotations

from functools import cache

from asyncpipe.compiler import Compiled, compile_instance
from asyncpipe.errors import Report, ScheduleError
from asyncpipe.schedule import load

__all__ = ["ALL", "compiled", "sizes"]

ALL = (1, 2, 3, 4, 5, 8)
_SIZES = {
    # Two stages on each device; a table wants as many on each, and equal rounds of its 8 microbatches.
    "interleaved-1f1b": (2, 3, 4, 8),
    "interleaved-1f1b-greedy": (2, 3, 4, 5, 8),
    "looped-bfs": (2, 3, 4, 8),
    "zbv": (2, 4, 8),
    "dualpipev": (2, 4, 8),
    # A stage above that does not send a gradient must exist.
    "dgl": (2, 3, 4, 5, 8),
    "dni": (2, 3, 4, 5, 8),
    # At least one stage for each worker.
    "passm-plus": (2, 3, 4, 5, 8),
    "lppsgd": (4, 5, 8),
}


def sizes(name: str) -> tuple[int, ...]:
    """Those of `ALL` that the method allows; all, where nothing else is said."""
    return _SIZES.get(name, ALL)


@cache
def compiled(name: str, stages: int, *overrides: str) -> Compiled:
    """The file for a number of stages with its own costs; ScheduleError with every finding."""
    schedule, report = load(name, overrides), Report()
    found = compile_instance(schedule, stages, schedule.costs, report)
    if found is None or report.has_errors:
        raise ScheduleError(report.diagnostics)
    return found

"""Texts to schedules and compiled instances, without files."""

from __future__ import annotations

from asyncpipe.compiler import Compiled, compile_schedule
from asyncpipe.errors import Diagnostic, ScheduleError
from asyncpipe.schedule import Schedule, load_text
from asyncpipe.schedule.source import Report
from tests.compiler.random_schedules import Case

__all__ = ["compiled", "findings", "schedule", "try_to_compile"]


def schedule(text: str) -> Schedule:
    """The schedule that `text` holds; ScheduleError if none."""
    report = Report()
    found = load_text(text, "test.yaml", report)
    if found is None or report.has_errors:
        raise ScheduleError(report.diagnostics)
    return found


def compiled(streams: str, stages: int) -> Compiled:
    """An instance of the schedule with these lines after the format's version."""
    return compile_schedule(schedule(f"asyncpipe: 1\n{streams}"), stages)


def findings(streams: str, stages: int) -> tuple[Diagnostic, ...]:
    """Why the schedule with these lines does not compile; nothing if it does."""
    try:
        compiled(streams, stages)
    except ScheduleError as error:
        return error.diagnostics
    return ()


def try_to_compile(case: Case) -> Compiled | tuple[Diagnostic, ...]:
    """The instance, or what is wrong with it."""
    try:
        return compile_schedule(schedule(case.text), case.stages)
    except ScheduleError as error:
        return error.diagnostics

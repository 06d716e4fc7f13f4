"""What the chosen back end cannot run of a schedule, with its lines."""

from __future__ import annotations

from collections.abc import Sequence

from asyncpipe.compiler import Compiled
from asyncpipe.errors import Report, UsageError
from asyncpipe.runtime.platform import Platform

__all__ = ["refuse_for_platform"]


def refuse_for_platform(platform: Platform, phases: Sequence[Compiled]) -> None:
    """UsageError with all of it, of all phases."""
    report = Report()
    for phase in phases:
        for key, code, message, hint in platform.refused(phase.program()):
            report.error(code, message, phase.schedule.where(key), hint)
    if report.has_errors:
        raise UsageError.of(*report.diagnostics)

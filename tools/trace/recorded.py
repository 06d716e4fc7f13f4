"""The timeline that `asyncpipe tools profile` left in a folder."""

from __future__ import annotations

from pathlib import Path

from asyncpipe.errors import UsageError
from asyncpipe.ir import TimedRun
from asyncpipe.schedule import load
from asyncpipe.tools.profile.files import TIMELINE_NAME, program_of_run, read_document, read_timeline
from asyncpipe.tools.trace.measured import MeasuredRun

__all__ = ["read_recorded"]


def read_recorded(folder: Path) -> MeasuredRun:
    """UsageError for a folder without a timeline, and for one whose schedule is not that of the timeline."""
    resolved = folder / "resolved.yaml"
    if not (folder / TIMELINE_NAME).exists():
        known = resolved if resolved.exists() else "SCHEDULE"
        message = f"{folder}: has no {TIMELINE_NAME}, since nobody timed its actions"
        raise UsageError(message, f"`asyncpipe tools trace {known}` measures them now")
    document = read_document(folder)
    if not resolved.exists():
        raise UsageError(f"{folder}: has no resolved.yaml", "name a folder of `asyncpipe tools profile`")
    program = program_of_run(load(str(resolved)), folder, document)
    run = TimedRun(program, read_timeline(folder, program))
    if not run.actions:
        raise UsageError(f"{folder / TIMELINE_NAME}: has no actions", "name a folder of `asyncpipe tools profile`")
    return MeasuredRun(run, str(document.get("job")), str(document.get("backend")))

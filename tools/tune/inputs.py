"""The files of a request, read: the schedule that is trained, and the job of the schedule that is tuned."""

from __future__ import annotations

from collections.abc import Sequence

from asyncpipe.errors import Report, ScheduleError
from asyncpipe.schedule import Schedule, read_schedule
from asyncpipe.schedule.job import JobSpec, read_job
from asyncpipe.tools.tune.request import Request

__all__ = ["job_overrides", "read_inputs"]


def job_overrides(overrides: Sequence[str]) -> tuple[str, ...]:
    """Those that speak of the job, and so hold for any schedule."""
    return tuple(text for text in overrides if text.startswith(("job.", "job=")))


def read_inputs(request: Request, schedule: str, overrides: Sequence[str]) -> tuple[Schedule, JobSpec]:
    """`schedule` with the job that the request names, else that of the tuned file; ScheduleError with all findings."""
    report = Report()
    loaded = read_schedule(schedule, report, overrides)
    tuned = loaded if schedule == request.tuned else read_schedule(request.tuned, report, job_overrides(overrides))
    spec = read_job(request.job or (tuned.job if tuned else None), report, overrides)
    if loaded is None or spec is None or report.has_errors:
        raise ScheduleError(report.diagnostics)
    return loaded, spec

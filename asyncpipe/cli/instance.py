"""The number of stages when nothing runs: the option's, the file's, the job's, else what `expect` states."""

from __future__ import annotations

from asyncpipe.compiler import stage_count
from asyncpipe.models.describe import describe
from asyncpipe.schedule import Schedule
from asyncpipe.schedule.job import JobSpec
from asyncpipe.staging import cut_stages

__all__ = ["instance_stages"]


def instance_stages(schedule: Schedule, asked: int | None, job: JobSpec | None) -> tuple[int, list[str]]:
    """(stages, what could not be checked). Raises UsageError or ScheduleError where the job has too few layers."""
    unchecked = ["memory", "capture on a GPU"]
    if job is None:
        return stage_count(schedule, asked), ["the model (no job given)", *unchecked]
    if ":" in job.model.use or ":" in job.data.use:
        return stage_count(schedule, asked), [f"the model {job.model.use} (its code is not run)", *unchecked]
    from asyncpipe.data.catalog import data_shape

    shape, classes, _ = data_shape(job.data.use, job.data.options)
    layers = describe(job.model.use, job.model.options, shape, classes, job.train.batch)
    return len(cut_stages(schedule, asked, len(layers), lambda: layers)), unchecked

"""The instance that is checked when nothing runs: the job, as far as it shows without torch, and the stages."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from asyncpipe.compiler import stage_count
from asyncpipe.errors import ScheduleError, UsageError, did_you_mean
from asyncpipe.schedule import Schedule
from asyncpipe.schedule.job import LOSSES, Component, JobSpec
from asyncpipe.schedule.source import Report
from asyncpipe.staging import cut_stages

if TYPE_CHECKING:
    from asyncpipe.models.describe import LayerCost

__all__ = ["check_job", "instance_stages"]


def check_job(job: JobSpec, report: Report) -> Sequence[LayerCost] | None:
    """AP107 for a part of the job that does not exist or has wrong options; the layers of a built-in model."""
    # Imported here: most schedules are checked without a job, and should be at once.
    from asyncpipe.data.catalog import data_shape
    from asyncpipe.models.describe import describe

    _check_loss(job.loss, report)
    _check_optimizer(job.optimizer, report)
    if _is_code(job.data):
        return None
    try:
        shape = data_shape(job.data.use, job.data.options)
    except UsageError as error:
        _refuse(job.data, error, report)
        return None
    if _is_code(job.model):
        return None
    try:
        sizes = shape.sample_shape, shape.classes, job.train.batch, shape.vocabulary, shape.target_shape
        return describe(job.model.use, job.model.options, *sizes)
    except UsageError as error:
        _refuse(job.model, error, report)
        return None


def instance_stages(
    schedule: Schedule, asked: int | None, job: JobSpec | None, report: Report
) -> tuple[int | None, list[str]]:
    """(stages: the option's, the file's, the job's, else what `expect` states; what could not be checked).

    None with the findings in the report where the layers do not suffice; UsageError where they are too few for `asked`.
    """
    layers = check_job(job, report) if job else None
    unchecked = _unchecked(job, layers)
    try:
        if layers is not None:
            return len(cut_stages(schedule, asked, len(layers), lambda: layers)), unchecked
        if asked is None and isinstance(schedule.stages, tuple):
            cut_stages(schedule, None, schedule.stages[-1].last + 1, lambda: ())
        return stage_count(schedule, asked), unchecked
    except ScheduleError as error:
        for diagnostic in error.diagnostics:
            report.add(diagnostic)
    except UsageError as error:
        if asked is not None:
            raise
        report.error("AP120", error.message, schedule.where("stages"), error.hint)
    return None, unchecked


def _unchecked(job: JobSpec | None, layers: Sequence[LayerCost] | None) -> list[str]:
    rest = ["memory in bytes", "capture on a GPU"] if layers is None else ["capture on a GPU"]
    if job is None:
        return ["the model (no job given)", *rest]
    code = [part.use for part in (job.model, job.data, job.loss, job.optimizer) if _is_code(part)]
    return [*(f"{use} (its code is not run)" for use in code), *rest]


def _is_code(component: Component) -> bool:
    return ":" in component.use or component.use.startswith("torch.")


def _refuse(component: Component, error: UsageError, report: Report) -> None:
    report.error("AP107", error.message, component.where, error.hint)


def _check_loss(loss: Component, report: Report) -> None:
    if not _is_code(loss) and loss.use not in LOSSES:
        report.error("AP107", f"no loss is called {loss.use!r}", loss.where, did_you_mean(loss.use, LOSSES))


def _check_optimizer(optimizer: Component, report: Report) -> None:
    from asyncpipe.runtime.learning_rate import read_rate
    from asyncpipe.runtime.optimizer_options import CHOICES, OPTIONS, read_options

    if _is_code(optimizer):
        return
    if optimizer.use not in OPTIONS:
        hint = did_you_mean(optimizer.use, [*OPTIONS, "torch.optim.NAME"])
        report.error("AP107", f"no optimizer is called {optimizer.use!r}", optimizer.where, hint)
        return
    options = dict(optimizer.options)
    rate = options.pop("lr", None)
    chosen = {name: options.pop(name, words[0]) for name, words in CHOICES.items()}
    for name, word in chosen.items():
        if word not in CHOICES[name]:
            expected = " or ".join(CHOICES[name])
            report.error("AP107", f"optimizer {name} must be {expected}, found {word!r}", optimizer.where)
    for check in (lambda: read_rate(rate, f"optimizer {optimizer.use}"), lambda: read_options(optimizer.use, options)):
        try:
            check()
        except UsageError as error:
            _refuse(optimizer, error, report)

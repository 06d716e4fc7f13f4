"""The instance that is checked when nothing runs: the job, as far as it shows without torch, and the stages.

Of a model or data that are the author's code, `--allow` lets that much run: one microbatch through each layer.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import prod
from typing import TYPE_CHECKING

from asyncpipe.cli.output import prints_on_stderr
from asyncpipe.compiler import stage_count
from asyncpipe.errors import ScheduleError, UsageError, did_you_mean
from asyncpipe.schedule import Schedule
from asyncpipe.schedule.job import LOSSES, Component, JobSpec
from asyncpipe.schedule.source import Report
from asyncpipe.staging import cut_stages

if TYPE_CHECKING:
    from asyncpipe.data.catalog import DataShape
    from asyncpipe.models.describe import LayerCost

__all__ = ["JobLayers", "check_job", "instance_stages"]

_ID_BYTES = 8


@dataclass(frozen=True)
class JobLayers:
    """Costs of a model's layers for one microbatch, and the bytes of that microbatch."""

    costs: Sequence[LayerCost]
    input_bytes: int

    def halved(self) -> JobLayers:
        """With two bytes for each number of four."""
        costs = [
            replace(one, parameter_bytes=one.parameter_bytes // 2, activation_bytes=one.activation_bytes // 2)
            for one in self.costs
        ]
        return JobLayers(costs, self.input_bytes)


def check_job(job: JobSpec, report: Report, allow: Sequence[str] = ()) -> JobLayers | None:
    """AP107 for a part of the job that does not exist or has wrong options; the layers of a built-in model.

    Of a model or data that are code only where `allow` has names of it; it then runs, and may raise a UserError.
    """
    # Imported here: most schedules are checked without a job, and should be at once.
    from asyncpipe.data.catalog import data_shape
    from asyncpipe.models.describe import describe

    _check_loss(job.loss, report)
    _check_optimizer(job.optimizer, report)
    if allow and (_is_code(job.data) or _is_code(job.model)):
        return None if report.has_errors else _measured(job, allow)
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
        costs = describe(job.model.use, job.model.options, *sizes)
    except UsageError as error:
        _refuse(job.model, error, report)
        return None
    layers = JobLayers(costs, _input_bytes(shape, job.train.batch))
    return layers if job.train.dtype == "preserve" else layers.halved()


def _input_bytes(shape: DataShape, batch: int) -> int:
    from asyncpipe.models.describe import FLOAT_BYTES

    return (FLOAT_BYTES if shape.vocabulary is None else _ID_BYTES) * batch * prod(shape.sample_shape)


def _measured(job: JobSpec, allow: Sequence[str]) -> JobLayers:
    """By running the author's code."""
    from asyncpipe.tools.fit import read_subject
    from asyncpipe.tools.fit.layers import few_samples, layers_of, measured

    with prints_on_stderr():
        subject = read_subject(job, allow)
        layers = layers_of(subject.model)
        sample = few_samples(layers, subject.sample)
        return JobLayers(measured(layers, sample, subject.batch), subject.sample.nbytes)


def instance_stages(
    schedule: Schedule, asked: int | None, job: JobSpec | None, layers: JobLayers | None, report: Report
) -> tuple[int | None, list[str]]:
    """(stages: the option's, the file's, the job's, else what `expect` states; what could not be checked).

    `layers`: what `check_job` found of the job. None with the findings in the report where they do not suffice;
    UsageError where they are too few for `asked`.
    """
    unchecked = _unchecked(job, layers)
    try:
        if layers is not None:
            return len(cut_stages(schedule, asked, len(layers.costs), lambda: layers.costs)), unchecked
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


def _unchecked(job: JobSpec | None, layers: JobLayers | None) -> list[str]:
    rest = ["memory in bytes", "capture on a GPU"] if layers is None else ["capture on a GPU"]
    if job is None:
        return ["the model (no job given)", *rest]
    parts = (job.model, job.data, job.loss, job.optimizer) if layers is None else (job.loss, job.optimizer)
    code = [part.use for part in parts if _is_code(part)]
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

"""The line of `check` about the learning rates that staleness and momentum leave stable."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import click

from asyncpipe.cli.diagnostics import render
from asyncpipe.compiler import Compiled
from asyncpipe.errors import Report, ScheduleError, UsageError
from asyncpipe.schedule.job import JobSpec
from asyncpipe.verify.job_rate import JobRate, check_rate, refused_auto
from asyncpipe.verify.stable_rate import ADAPTIVE, StableRate, stable_rates, step_rule

__all__ = ["StableLr", "find_stable_lr", "stable_lr_json", "stable_lr_text", "warn_of_rate"]


@dataclass(frozen=True)
class StableLr:
    """For the optimizer `use`; no rates where nothing is known of its steps."""

    use: str
    momentum: float
    rates: Sequence[StableRate]

    @property
    def of_what(self) -> str:
        return "preconditioned curvature" if self.use in ADAPTIVE else "curvature"

    @property
    def worst(self) -> int:
        return min(range(len(self.rates)), key=lambda stage: self.rates[stage].gain)


def find_stable_lr(compiled: Compiled, job: JobSpec | None, curvature: float | None, report: Report) -> StableLr:
    """Of the job's optimizer, without a job of plain SGD; AP507 in the report. UsageError for a `curvature` with which
    nothing can be compared."""
    from asyncpipe.runtime.optimizer_options import OPTIONS, read_options

    use, stated = ("sgd", {}) if job is None else (job.optimizer.use, job.optimizer.options)
    options = {name: stated[name] for name in stated if name in OPTIONS.get(use, ())}
    rule = step_rule(use, read_options(use, options)) if use in OPTIONS else None
    if curvature is not None and (job is None or rule is None):
        raise UsageError(f"--curvature: no learning rate of {use} to compare with", "add --job with sgd or adam, say")
    if rule is None:
        if isinstance(stated.get("lr"), Mapping):
            message, hint = refused_auto(use)
            report.error("AP107", message, job.optimizer.where if job else None, hint)
        return StableLr(use, 0.0, ())
    found = StableLr(use, rule.momentum, stable_rates(compiled, rule, use in ADAPTIVE))
    if job is not None:
        check_rate(found.rates, _job_rate(job, found, curvature), report)
    return found


def warn_of_rate(compiled: Compiled, job: JobSpec) -> None:
    """On stderr what `check` would warn of; ScheduleError for a rate that no stage can have."""
    report = Report()
    find_stable_lr(compiled, job, None, report)
    if report.has_errors:
        raise ScheduleError(report.diagnostics)
    click.echo(render(report.diagnostics), err=True, nl=False)


def _job_rate(job: JobSpec, found: StableLr, curvature: float | None) -> JobRate:
    from asyncpipe.runtime.learning_rate import read_rate

    rate = read_rate(job.optimizer.options["lr"], found.use)
    return JobRate(rate.lr, found.momentum, rate.auto, job.optimizer.where, curvature, found.of_what)


def stable_lr_text(found: StableLr) -> str:
    """`below 0.281 / curvature at stage 0 (sgd, momentum 0.5): 9.4 % of 3 without staleness; ...`."""
    if not found.rates:
        return f"not known for {found.use}"
    worst = found.rates[found.worst]
    rule = f"({found.use}, momentum {found.momentum:g})" if found.momentum else f"({found.use} without momentum)"
    if worst.gain == 0:
        return f"none at stage {found.worst} {rule}"
    if all(rate.staleness == 0 for rate in found.rates):
        return f"below {worst.gain:.3g} / {found.of_what} {rule}, as without staleness"
    part = f"{100 * worst.gain / worst.without:.2g} % of {worst.without:.3g} without staleness"
    auto = f"lr: auto scales it by {worst.factor:.2g}"
    return f"below {worst.gain:.3g} / {found.of_what} at stage {found.worst} {rule}: {part}; {auto}"


def stable_lr_json(found: StableLr) -> dict[str, Any]:
    """Per stage, lr * curvature; see docs/stability.md."""
    return {
        "optimizer": found.use,
        "momentum": found.momentum,
        "gain": [rate.gain for rate in found.rates],
        "gain_without_staleness": found.rates[0].without if found.rates else None,
        "share": [rate.share for rate in found.rates],
        "auto": [rate.factor for rate in found.rates],
    }

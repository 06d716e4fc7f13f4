"""AP507: a learning rate that staleness and momentum make unstable, or may."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

from asyncpipe.errors import Diagnostic, Position, Report
from asyncpipe.verify.stable_rate import StableRate

__all__ = ["LEAST_SHARE", "NO_COPIES", "JobRate", "check_rate", "refused_auto"]

LEAST_SHARE = 0.1
"""AP507 warns below it: more than ten times fewer learning rates are stable than plain SGD has without staleness."""


_NONE = "is stable at no lr as planned: a momentum of 1 or more, or copies of its weights that drift apart"
NO_COPIES = "lower the momentum; or let no stream overwrite another's weights: update: {write: ordered}"


@dataclass(frozen=True)
class JobRate:
    """What the job says: its learning rate, whether stages scale it by `factor`, and the curvature, where known."""

    lr: float
    momentum: float
    auto: bool
    where: Position | None
    curvature: float | None = None
    of_what: str = "curvature"
    """What the limit is a limit of, times lr."""


def check_rate(rates: Sequence[StableRate], job: JobRate, report: Report) -> None:
    """AP507 at the stage that the rate fits least: an error where lr * curvature is beyond what is stable; without a
    curvature a warning where staleness leaves far less than plain SGD has, and the job does not allow for it."""
    limits = [rate.gain / rate.factor if job.auto and rate.factor else rate.gain for rate in rates]
    stage = limits.index(min(limits))
    rate = rates[stage]
    if job.curvature is not None:
        _check_known(stage, rate, job, job.curvature, report)
    elif rate.gain == 0:
        report.add(Diagnostic("AP507", f"{_stage(stage, rate, job)} {_NONE}", job.where, NO_COPIES, "warning"))
    elif not job.auto and rate.share < LEAST_SHARE:
        plain = rate.gain / rate.share
        message = (
            f"{_stage(stage, rate, job)} is stable for lr * {job.of_what} below {rate.gain:.3g}, {1 / rate.share:.0f}"
            f" times less than plain SGD without staleness at the same lr / (1 - momentum), {plain:.3g}"
        )
        hint = f"write `lr: {{auto: {job.lr:g}}}` to scale it stage by stage, or lower lr, momentum or the staleness"
        report.add(Diagnostic("AP507", message, job.where, hint, "warning"))


def _check_known(stage: int, rate: StableRate, job: JobRate, curvature: float, report: Report) -> None:
    lr = job.lr * (rate.factor if job.auto else 1)
    if lr * curvature < rate.gain:
        return
    if rate.gain == 0:
        report.error("AP507", f"{_stage(stage, rate, job)} {_NONE}", job.where, NO_COPIES)
        return
    message = f"{_stage(stage, rate, job)} is stable for lr below {rate.gain / curvature:.3g} at a {job.of_what} of"
    hint = "lower lr, momentum or the staleness"
    if not job.auto and lr * curvature * rate.factor < rate.gain:
        hint = f"write `lr: {{auto: {job.lr:g}}}` to scale it stage by stage, or {hint}"
    report.error("AP507", f"{message} {curvature:g}, found {lr:.3g}", job.where, hint)


def refused_auto(use: object) -> tuple[str, str]:
    """(message, hint) where `lr: auto` meets an optimizer of unknown limits."""
    message = f"lr: auto is for sgd, adam, adamw and nadam; what staleness leaves stable of {use} is not known"
    return message, "give lr as a number, and scale it in the schedule: gradient: [{lr_over_staleness: 1}]"


def _stage(stage: int, rate: StableRate, job: JobRate) -> str:
    momentum = f" and a momentum of {job.momentum:g}" if job.momentum else ""
    return f"stage {stage}, with a staleness of {_number(rate.staleness)}{momentum},"


def _number(value: Fraction) -> str:
    return str(value) if value.denominator == 1 else f"{float(value):.3g}"

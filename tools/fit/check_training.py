"""Checks of the first step, of traces, and of what the schedule makes of the model: memory and learning rate."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import cast

from asyncpipe.errors import Report, UserError
from asyncpipe.runtime.optimizer_options import OPTIONS, read_options
from asyncpipe.tools.fit.examine import Examined
from asyncpipe.tools.fit.findings import Finding, Severity
from asyncpipe.tools.fit.places import Place
from asyncpipe.tools.fit.wording import bytes_text, several
from asyncpipe.verify.job_rate import JobRate, check_rate
from asyncpipe.verify.stable_rate import ADAPTIVE, StableRate, stable_rates, step_rule

__all__ = ["CHECKS"]


def first_step(found: Examined) -> Iterator[Finding]:
    """The loss and the gradients of one microbatch, by the stage functions of `threads`."""
    if found.subject.stand_in:
        message = f"random numbers, {found.subject.stand_in}: the first loss says little"
        yield Finding("input", "ok", message)
    step = found.step
    if step.refusal is not None:
        yield Finding("first step", "fail", step.refusal.message, step.refusal.hint)
    elif step.raised is not None:
        yield Finding("first step", "fail", step.raised.message, "mend the model or the loss: plain PyTorch raises too")
    elif step.loss is not None and not math.isfinite(step.loss):
        todo = "scale inputs and initial weights, and look for a log or a division of 0"
        yield Finding("first step", "fail", f"the loss is {step.loss}", todo)
    elif step.not_finite:
        names = several(step.not_finite)
        todo = "look for roots, norms and logarithms at 0 in these layers"
        yield Finding("first step", "fail", f"the loss is {step.loss:.4g}, the gradient of {names} not finite", todo)
    else:
        yield Finding("first step", "ok", f"loss {step.loss:.4g}, all gradients finite{_undivided(found)}")


def _undivided(found: Examined) -> str:
    return "" if found.can_be_cut_so else " (tried as one stage)"


def other_batches(found: Examined) -> Iterator[Finding]:
    """Evaluation takes batches of other sizes."""
    if found.evaluation is not None:
        todo = "take the number of samples from the input (x.shape[0], flatten(1)); evaluation needs other sizes"
        yield Finding("batch size", "fail", found.evaluation.message, todo)


def traces(found: Examined) -> Iterator[Finding]:
    """Stages that streams and graph can run; a model whose step raised cannot be traced for the same reason."""
    if found.step.raised is not None:
        return
    bad: Severity = "fail" if found.asked.is_cuda else "warn"
    good = [trace.stage for trace in found.traces if trace.division is not None]
    if good:
        stages = (
            "all stages"
            if len(good) == len(found.traces)
            else f"{'stage' if len(good) == 1 else 'stages'} {several(list(map(str, good)))}"
        )
        message = f"{stages} can be traced into graphs, as streams and graph need it{_undivided(found)}"
        yield Finding("trace", "ok", message)
    for trace in found.traces:
        if trace.skipped:
            yield Finding("trace", "ok", f"stage {trace.stage} was not traced: {trace.skipped}")
        elif trace.error is not None:
            yield Finding("trace", bad, *_words(trace.error))


def _words(error: UserError) -> tuple[str, str, tuple[Place, ...]]:
    where = next((diagnostic.where for diagnostic in error.diagnostics), None)
    place = () if where is None else (Place.of_file(where.file, where.line),)
    return error.message, error.hint, place


def memory(found: Examined) -> Iterator[Finding]:
    """What the schedule needs, against a limit if there is one."""
    if not found.memory:
        return
    total = sum(stage.total for stage in found.memory)
    replicas = found.asked.schedule.replicas.count
    message = f"{bytes_text(total * replicas)} under {found.asked.schedule.name}, without workspaces of libraries"
    limit = found.asked.memory
    if limit is not None and total * replicas > limit:
        most = max(range(len(found.memory)), key=lambda stage: found.memory[stage].total)
        todo = f"stage {most} needs most; lower `in_flight` or the batch, or recompute (`recompute: full`)"
        yield Finding("memory", "fail", f"{message}, more than {bytes_text(limit)}", todo)
    else:
        yield Finding("memory", "ok", message)


def learning_rate(found: Examined) -> Iterator[Finding]:
    """What staleness leaves of the stable learning rates."""
    spec = found.subject.optimizer
    use = spec.use if isinstance(spec.use, str) else ""
    rule = step_rule(use, read_options(use, dict(spec.options))) if use in OPTIONS else None
    if rule is None or not spec.lr:
        yield Finding("learning rate", "ok", f"what staleness leaves stable of {use or spec.use} is not known")
        return
    rates = stable_rates(found.compiled, rule, use in ADAPTIVE)
    job = JobRate(spec.lr, rule.momentum, spec.auto, None, found.asked.curvature, _curvature(use))
    report = Report()
    check_rate(rates, job, report)
    for diagnostic in report.diagnostics:
        severity = cast(Severity, {"error": "fail", "warning": "warn"}[diagnostic.severity])
        yield Finding("learning rate", severity, diagnostic.message, diagnostic.hint)
    if not report.diagnostics:
        yield Finding("learning rate", "ok", _stable(rates, job))


def _stable(rates: Sequence[StableRate], job: JobRate) -> str:
    """The stage with the least limit, and the curvature that its rate stands."""
    limits = [rate.gain / rate.factor if job.auto else rate.gain for rate in rates]
    stage = limits.index(min(limits))
    text = f"{job.lr:g} is stable at stage {stage} below a {job.of_what} of {limits[stage] / job.lr:.3g}"
    return text if job.auto else f"{text}; `lr: auto` would scale it by {rates[stage].factor:.2g}"


def _curvature(use: str) -> str:
    return "preconditioned curvature" if use in ADAPTIVE else "curvature"


Check = Callable[[Examined], Iterator[Finding]]
CHECKS: tuple[Check, ...] = (first_step, other_batches, traces, memory, learning_rate)

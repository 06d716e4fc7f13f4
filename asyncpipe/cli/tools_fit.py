"""`asyncpipe tools fit`: what a model needs before its first run."""

from __future__ import annotations

import json
import shlex
from collections.abc import Sequence
from dataclasses import dataclass

import click

from asyncpipe.cli.options import json_option, override_option, size_of
from asyncpipe.cli.output import prints_on_stderr
from asyncpipe.errors import Report, ScheduleError, UsageError
from asyncpipe.schedule import Schedule, read_schedule
from asyncpipe.schedule.job import JobSpec, read_job

__all__ = ["command"]

DEFAULT_SCHEDULE = "async-lu"
_DTYPE = "float32"


@dataclass(frozen=True)
class _Inputs:
    """What the arguments name."""

    schedule: Schedule
    job: JobSpec
    model: str | None
    """The author's code, if it is not the job's own model."""


@click.command("fit")
@click.argument("model", metavar="[MODEL]", required=False)
@click.option("--job", metavar="NAME|FILE", help="Data, loss and optimizer for a MODEL that is code.")
@click.option("--input", "shape", metavar="32x1x28x28", help="A microbatch of random numbers, samples first.")
@click.option("--dtype", metavar="TYPE", help=f"Of --input, as torch calls it; default: {_DTYPE}.")
@click.option("--schedule", default=DEFAULT_SCHEDULE, show_default=True, metavar="NAME|FILE", help="What is to run it.")
@click.option(
    "--backend", type=click.Choice(["auto", "serial", "threads", "streams", "graph"]), default="auto", show_default=True
)
@click.option("--stages", type=click.IntRange(1, 4096), help="How many stages.")
@click.option(
    "--costs",
    type=click.Choice(["flops", "measured"]),
    default="flops",
    show_default=True,
    help="What stages are cut by: counts, or times on this machine.",
)
@click.option("--memory", metavar="SIZE", help="A failure if all stages together need more, as in 80GB.")
@click.option(
    "--curvature",
    type=click.FloatRange(0, min_open=True),
    metavar="NUMBER",
    help="A failure if the lr is not stable at this curvature, the largest of the loss.",
)
@click.option("--allow", multiple=True, metavar="PACKAGE|FILE", help="Code of the author that may run.")
@override_option
@json_option
def command(
    model: str | None,
    job: str | None,
    shape: str | None,
    dtype: str | None,
    schedule: str,
    backend: str,
    stages: int | None,
    costs: str,
    memory: str | None,
    curvature: float | None,
    allow: Sequence[str],
    overrides: Sequence[str],
    as_json: bool,
) -> int:
    """Read MODEL before its first run: stages, memory, and what in it does not fit, with what to do.

    MODEL is a job (a name or file; default: digits), or code: ./file.py:callable or package.module:callable, which
    --allow must name. One microbatch runs forward and backward on the CPU; nothing is trained. Exit code 0: it trains;
    3: something fails; 5: the model or the loss raised.
    """
    if dtype is not None and shape is None:
        raise UsageError("--dtype has no meaning without --input", "leave it out: a job's data have their own")
    limit = None if memory is None else size_of(memory)
    inputs = _read(model, job, schedule, overrides)
    from asyncpipe.tools.fit import Asked, fit, read_subject
    from asyncpipe.tools.fit.document import document
    from asyncpipe.tools.fit.subject import parse_shape
    from asyncpipe.tools.fit.text import report

    given = None if shape is None else parse_shape(shape, dtype or _DTYPE)
    with prints_on_stderr():
        subject = read_subject(inputs.job, allow, given)
        found = fit(subject, Asked(inputs.schedule, backend, stages, costs, limit, curvature))
    options = [*found.stage_options, *([] if backend == "auto" else ["--backend", backend])]
    options += [word for text in overrides for word in ("-o", text)]
    job = job if inputs.model else model or job
    after = _next_command(inputs, schedule, job, given is None, options, allow)
    click.echo(json.dumps(document(found, after)) if as_json else report(found, after), nl=as_json)
    return found.exit_code


def _read(model: str | None, job: str | None, schedule: str, overrides: Sequence[str]) -> _Inputs:
    """Both files; ScheduleError with every finding, UsageError where MODEL and --job are both jobs."""
    code = model if model is not None and ":" in model else None
    if model is not None and model.endswith(".py"):
        raise UsageError(f"{model}: which function or class of it?", f"as in {model}:Net")
    if code is None and model is not None and job is not None:
        hint = "a MODEL that is code, such as ./net.py:Net, takes data and loss from --job"
        raise UsageError(f"{model} and {job}: two jobs", hint)
    report = Report()
    loaded = read_schedule(schedule, report, overrides)
    source = job if code else model or job
    own = () if code is None else (f"job.model={code}",)
    spec = read_job(source or (loaded.job if loaded else None), report, (*overrides, *own))
    if loaded is None or spec is None or report.has_errors:
        raise ScheduleError(report.diagnostics)
    return _Inputs(loaded, spec, code)


def _next_command(
    inputs: _Inputs, schedule: str, job: str | None, has_data: bool, options: Sequence[str], allow: Sequence[str]
) -> str:
    """What trains this model so; without data for it, with a job that is to be written."""
    words = ["asyncpipe", "run", schedule]
    if not has_data:
        words += ["--job", "job.yaml"]
    else:
        words += [] if job is None else ["--job", job]
        words += [] if inputs.model is None else ["-o", f"job.model={inputs.model}"]
    words += [*options, *(word for name in allow for word in ("--allow", name))]
    return shlex.join(words)

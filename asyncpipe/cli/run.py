"""`asyncpipe run`: train a job under a schedule."""

from __future__ import annotations

import json
from collections.abc import Sequence

import click

from asyncpipe.cli.instance import instance_stages
from asyncpipe.cli.options import json_option, override_option
from asyncpipe.compiler import check_expect, compile_instance
from asyncpipe.errors import ScheduleError, UsageError
from asyncpipe.schedule import Schedule, read_schedule
from asyncpipe.schedule.job import JobSpec, read_job
from asyncpipe.schedule.source import Report
from asyncpipe.verify.trainable import untrainable

__all__ = ["command"]

DEFAULT_SCHEDULE = "async-lu"


@click.command("run")
@click.argument("schedule", metavar="[SCHEDULE]", default=DEFAULT_SCHEDULE)
@click.option("--job", metavar="NAME|FILE", help="What to train; default: the file's `job:`, else digits.")
@click.option("--backend", type=click.Choice(["auto", "serial", "threads"]), default="auto", show_default=True)
@click.option("--device", type=click.Choice(["cpu"]), default="cpu", show_default=True)
@click.option("--stages", type=click.IntRange(1, 4096), help="How many stages.")
@click.option("--steps", type=click.IntRange(1), help="Stop after so many updates.")
@click.option("--epochs", type=click.IntRange(1), help="Default: the job's.")
@click.option("--seed", type=click.IntRange(0, 2**31 - 1), help="Default: the job's.")
@click.option("--out", metavar="FOLDER", help="The run directory; default: runs/SCHEDULE-TIME.")
@click.option("--allow", multiple=True, metavar="PACKAGE|FILE", help="Code of the job that may run.")
@override_option
@json_option
def command(
    schedule: str,
    job: str | None,
    backend: str,
    device: str,
    stages: int | None,
    steps: int | None,
    epochs: int | None,
    seed: int | None,
    out: str | None,
    allow: Sequence[str],
    overrides: Sequence[str],
    as_json: bool,
) -> None:
    """Train a job under SCHEDULE (a file or a library name; default: async-lu).

    The run directory gets schedule.yaml, resolved.yaml, env.json, metrics.jsonl and summary.json. The result goes to
    stdout, everything else to stderr.
    """
    if steps is not None and epochs is not None:
        raise UsageError("--steps and --epochs exclude each other", "give one of them")
    loaded, spec = _read(schedule, job, stages, overrides)
    from asyncpipe.tools.environment import describe_environment
    from asyncpipe.training import TrainingRun

    run = TrainingRun(loaded, spec, backend, device, stages, steps, epochs, seed, tuple(allow), as_json)
    summary = run.execute(out, describe_environment())
    click.echo(json.dumps(summary) if as_json else run.result_text(summary))


def _read(schedule: str, job: str | None, stages: int | None, overrides: Sequence[str]) -> tuple[Schedule, JobSpec]:
    """Both files, checked and compiled before anything runs; ScheduleError tells what is wrong with either."""
    report = Report()
    loaded = read_schedule(schedule, report, overrides)
    source = job or (loaded.job if loaded else None)
    spec = read_job(source, report, overrides)
    if loaded is not None and spec is not None and not report.has_errors:
        check_expect(loaded, report)
        for diagnostic in untrainable(loaded):
            report.add(diagnostic)
        count, _ = instance_stages(loaded, stages, spec, report)
        if count is not None:
            compile_instance(loaded, count, loaded.costs, report)
    if loaded is None or spec is None or report.has_errors:
        raise ScheduleError(report.diagnostics)
    return loaded, spec

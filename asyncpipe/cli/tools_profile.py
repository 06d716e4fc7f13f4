"""`asyncpipe tools profile`: where the time of a schedule goes on this machine."""

from __future__ import annotations

import json
from collections.abc import Sequence

import click

from asyncpipe.cli.options import json_option, override_option
from asyncpipe.cli.output import prints_on_stderr
from asyncpipe.cli.run import BACKENDS, DEFAULT_SCHEDULE, read_inputs
from asyncpipe.errors import UsageError

__all__ = ["command"]

SECONDS = 5.0


@click.command("profile")
@click.argument("schedule", metavar="[SCHEDULE]", default=DEFAULT_SCHEDULE)
@click.option("--job", metavar="NAME|FILE", help="What to train; default: the file's `job:`, else digits.")
@click.option("--stages", type=click.IntRange(1, 4096), help="How many stages.")
@click.option("--backend", type=click.Choice(BACKENDS), default="auto", show_default=True)
@click.option("--steps", type=click.IntRange(1), help="Measure so many updates.")
@click.option("--seconds", type=click.FloatRange(0, 3600, min_open=True), help=f"About so long; default: {SECONDS:g}.")
@click.option("--seed", type=click.IntRange(0, 2**31 - 1), help="Default: the job's.")
@click.option("--out", metavar="FOLDER", help="Where the profile goes; default: runs/profile-SCHEDULE-TIME.")
@click.option("--allow", multiple=True, metavar="PACKAGE|FILE", help="Code of the job that may run.")
@override_option
@json_option
def command(
    schedule: str,
    job: str | None,
    stages: int | None,
    backend: str,
    steps: int | None,
    seconds: float | None,
    seed: int | None,
    out: str | None,
    allow: Sequence[str],
    overrides: Sequence[str],
    as_json: bool,
) -> None:
    """Train a job under SCHEDULE (a file or a library name) for a while and say where the time goes.

    What each op takes at each stage; of each stream how long it works, what it waits for, and how long it misses a
    worker; the pace, and how near the simulator comes to it. The folder gets profile.json, which `simulate --costs`
    and `check --costs` read, and timeline.csv, which `show --compare` draws.
    """
    if steps is not None and seconds is not None:
        raise UsageError("--steps and --seconds exclude each other", "give one of them")
    loaded, spec, _ = read_inputs(schedule, job, stages, overrides)
    from asyncpipe.tools.environment import describe_environment
    from asyncpipe.tools.profile.profiling import profile_job
    from asyncpipe.tools.profile.report import document
    from asyncpipe.tools.profile.session import ProfileRequest
    from asyncpipe.tools.profile.text import profile_text

    request = ProfileRequest(loaded, spec, backend, stages, steps, seconds or SECONDS, seed, tuple(allow))
    with prints_on_stderr():
        report, folder = profile_job(request, out, describe_environment())
    click.echo(json.dumps({**document(report), "out": str(folder)}) if as_json else profile_text(report), nl=as_json)
    click.echo(f"wrote {folder}", err=True)

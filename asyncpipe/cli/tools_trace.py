"""`asyncpipe tools trace`: the measured timeline of a schedule or of a run, for Perfetto."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from asyncpipe.cli.options import counted, json_option, override_option
from asyncpipe.cli.output import prints_on_stderr
from asyncpipe.cli.run import BACKENDS, DEFAULT_SCHEDULE, read_inputs
from asyncpipe.errors import UsageError

if TYPE_CHECKING:
    from asyncpipe.tools.trace.file import Written
    from asyncpipe.tools.trace.measured import MeasuredRun, Steps, Window

__all__ = ["command"]

_TARGET = "trace.json.gz"
_ENDINGS = (".json", ".json.gz")


@click.command("trace")
@click.argument("source", metavar="[SCHEDULE|RUN]", default=DEFAULT_SCHEDULE)
@click.option("--job", metavar="NAME|FILE", help="What to train; default: the file's `job:`, else digits.")
@click.option("--stages", type=click.IntRange(1, 4096), help="How many stages.")
@click.option("--backend", type=click.Choice(BACKENDS), help="Default: auto.")
@click.option("--steps", metavar="A:B", help="Updates A up to but without B; default: some of the steady state.")
@click.option("--seed", type=click.IntRange(0, 2**31 - 1), help="Default: the job's.")
@click.option("--out", default=_TARGET, show_default=True, metavar="FILE", help="Ends in .json or .json.gz.")
@click.option("--allow", multiple=True, metavar="PACKAGE|FILE", help="Code of the job that may run.")
@override_option
@json_option
def command(
    source: str,
    job: str | None,
    stages: int | None,
    backend: str | None,
    steps: str | None,
    seed: int | None,
    out: str,
    allow: Sequence[str],
    overrides: Sequence[str],
    as_json: bool,
) -> None:
    """Write what streams and workers did, and when, as a trace for Perfetto and chrome://tracing.

    A SCHEDULE (a file or a library name) is trained for a moment, timed, after a warm-up that is not shown. A RUN is
    a folder of `asyncpipe tools profile`, whose timeline is converted.
    """
    from asyncpipe.tools.trace.measured import parse_steps, window_of

    if not out.endswith(_ENDINGS):
        raise UsageError(f"--out {out}: expected a name that ends in {' or '.join(_ENDINGS)}", f"as in {_TARGET}")
    wished = None if steps is None else parse_steps(steps)
    if Path(source).is_dir():
        given = {"--job": job, "--stages": stages, "--backend": backend, "--seed": seed, "--allow": allow}
        measured, shown = _recorded(Path(source), {**given, "-o": overrides}, wished)
    else:
        from asyncpipe.tools.profile.session import ProfileRequest
        from asyncpipe.tools.trace.measuring import measure_run

        loaded, spec, _ = read_inputs(source, job, stages, overrides)
        request = ProfileRequest(loaded, spec, backend or "auto", stages, seed=seed, allow=tuple(allow))
        with prints_on_stderr():
            measured, shown = measure_run(request, wished)
    _write(Path(out), measured, window_of(measured.run, shown), as_json)


def _recorded(folder: Path, options: dict[str, Any], wished: Steps | None) -> tuple[MeasuredRun, Steps]:
    """UsageError for an option that a finished run answers itself."""
    from asyncpipe.tools.trace.measured import default_steps
    from asyncpipe.tools.trace.recorded import read_recorded

    if given := [option for option, value in options.items() if value]:
        verb = "has" if len(given) == 1 else "have"
        raise UsageError(f"{', '.join(given)} {verb} no meaning with a folder", "the run has its own; leave it out")
    measured = read_recorded(folder)
    program = measured.run.program
    return measured, wished or default_steps(program, program.updates or 0)


def _write(path: Path, measured: MeasuredRun, window: Window, as_json: bool) -> None:
    from asyncpipe.tools.trace.events import trace_events
    from asyncpipe.tools.trace.file import MOST_COMFORTABLE_BYTES, write_trace

    program = measured.run.program
    title = f"{program.schedule} on {measured.job}: {measured.backend}, {counted(program.stages, 'stage')}"
    about = {"title": f"{title}, updates {window.steps}", "time": "1 s is shown as 1 s"}
    written = write_trace(path, trace_events(measured, window), about)
    if written.json_bytes > MOST_COMFORTABLE_BYTES:
        message = f"{_size(written.json_bytes)} of JSON are much for a browser; fewer --steps are easier to read"
        recipe = f"or: trace_processor_shell --httpd {path}, then open ui.perfetto.dev"
        click.echo(f"warning: {message}\n  {recipe}", err=True)
    click.echo(f"wrote {path}", err=True)
    found = _document(path, measured, window, written)
    click.echo(json.dumps(found) if as_json else "\n".join(_lines(title, found)))


def _lines(title: str, found: dict[str, Any]) -> Iterator[str]:
    first, after = found["steps"]
    milliseconds = (found["end_s"] - found["begin_s"]) * 1000
    size = f"{counted(found['events'], 'event')}, {_size(found['file_bytes'])}"
    yield title
    yield f"updates {first} to {after - 1}: {milliseconds:.1f} ms, {size}"
    yield from (f"no {name}: {reason}" for name, reason in found["unavailable"].items())
    yield "open it at https://ui.perfetto.dev, which uploads nothing, or chrome://tracing"


def _size(count: int) -> str:
    return f"{count / 2**20:.1f} MiB" if count >= 2**20 else f"{count / 2**10:.1f} KiB"


def _document(path: Path, measured: MeasuredRun, window: Window, written: Written) -> dict[str, Any]:
    program = measured.run.program
    return {
        "schema": "asyncpipe.trace/1",
        "schedule": program.schedule,
        "job": measured.job,
        "backend": measured.backend,
        "stages": program.stages,
        "replicas": program.replicas,
        "streams": len(program.streams),
        "steps": [window.steps.first, window.steps.after],
        "begin_s": window.begin,
        "end_s": window.end,
        "events": written.events,
        "json_bytes": written.json_bytes,
        "file_bytes": written.file_bytes,
        "unavailable": {"loss": "a profile does not keep it"} if measured.losses is None else {},
        "out": str(path),
    }

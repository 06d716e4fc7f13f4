"""`asyncpipe export`: a schedule in the form of another program, or a refusal that lists what would be lost."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import click

from asyncpipe.cli.diagnostics import render
from asyncpipe.cli.options import counted, instance_options, json_option, override_option
from asyncpipe.compiler import Compiled, compile_schedule, stage_count
from asyncpipe.errors import Diagnostic, ScheduleError, UsageError
from asyncpipe.exchange.aligned import align
from asyncpipe.exchange.losses import Loss, losses
from asyncpipe.exchange.to_dot import dot_text
from asyncpipe.exchange.to_json import table_document
from asyncpipe.exchange.window import exportable, window
from asyncpipe.schedule import Costs, load
from asyncpipe.tables.csv_text import csv_text

__all__ = ["command"]

_MOST_MICROBATCHES = 10_000
_FORMS = ("torch-csv", "json", "dot")


@click.command("export")
@click.argument("schedule", metavar="SCHEDULE")
@click.option("--to", "form", type=click.Choice(_FORMS), required=True, help="The form; json is level L1.")
@instance_options
@click.option("--aligned", is_flag=True, help="torch-csv: columns are points in time, for PipelineScheduleMulti.")
@click.option("--lossy", is_flag=True, help="torch-csv: leave out what the form cannot say.")
@click.option("--out", metavar="FILE", type=click.Path(dir_okay=False, path_type=Path), help="Default: stdout.")
@click.option("--force", is_flag=True, help="Overwrite FILE.")
@override_option
@json_option
def command(
    schedule: str,
    form: str,
    stages: int | None,
    microbatches: int | None,
    costs: Costs | None,
    aligned: bool,
    lossy: bool,
    out: Path | None,
    force: bool,
    overrides: Sequence[str],
    as_json: bool,
) -> None:
    """Write a schedule for another program.

    torch-csv is the table of one update for torch.distributed.pipelining: computations only, one line for each device.
    It is refused with a list of all that it would lose, unless --lossy. --microbatches N orders N microbatches.
    """
    if form != "torch-csv" and (aligned or lossy):
        raise UsageError(f"--{'aligned' if aligned else 'lossy'} is for torch-csv, not for {form}", "leave it out")
    if out is not None and out.exists() and not force:
        raise UsageError(f"{out} exists", "name another file, or add --force to overwrite it")
    loaded = load(schedule, overrides)
    compiled = compile_schedule(loaded, stage_count(loaded, stages), costs)
    lost: list[Loss] = []
    if form == "torch-csv":
        text, lost = _torch_csv(compiled, microbatches, aligned, lossy)
    elif form == "dot":
        text = dot_text(compiled, _few(microbatches or 2 * compiled.diagram.every))
    else:
        text = json.dumps(table_document(compiled.table(microbatches))) + "\n"
    _write(form, text, lost, out, as_json)


def _few(microbatches: int) -> int:
    if microbatches > _MOST_MICROBATCHES:
        message = f"{microbatches:,} microbatches are more than {_MOST_MICROBATCHES:,}"
        raise UsageError(message, "export fewer: what follows repeats")
    return microbatches


def _torch_csv(compiled: Compiled, microbatches: int | None, aligned: bool, lossy: bool) -> tuple[str, list[Loss]]:
    found = window(compiled, _few(microbatches or compiled.diagram.every))
    exportable(compiled, found)
    lost = losses(compiled, found)
    if lost and not lossy:
        raise ScheduleError([_told(compiled, lost, "error")])
    if lost:
        click.echo(render([_told(compiled, lost, "note")]), err=True, nl=False)
    return csv_text(align(compiled, found) if aligned else found.rows), lost


def _told(compiled: Compiled, lost: list[Loss], severity: str) -> Diagnostic:
    name = compiled.schedule.name
    verb = "would lose" if severity == "error" else "has lost"
    message = f"as a table for torch {name} {verb} {counted(len(lost), 'thing')}"
    hint = "--lossy exports the order of one update without them" if severity == "error" else ""
    where = compiled.schedule.where("streams")
    return Diagnostic("AP140", message, where, hint, severity, tuple((text, place) for text, place in lost))


def _write(form: str, text: str, lost: list[Loss], out: Path | None, as_json: bool) -> None:
    if out is not None:
        try:
            out.write_text(text, "utf-8", newline="\n")
        except OSError as error:
            raise UsageError(f"cannot write {out}: {error.strerror}", "name another file with --out") from error
    if as_json:
        document = {"schema": "asyncpipe.export/1", "to": form, "lost": [text for text, _ in lost]}
        click.echo(json.dumps({**document, "out": str(out)} if out else {**document, "text": text}))
    elif out is None:
        click.echo(text, nl=False)

"""`asyncpipe import`: a table of another program as a schedule."""

from __future__ import annotations

import json
import os
from pathlib import Path

import click

from asyncpipe.cli.diagnostics import render
from asyncpipe.cli.options import counted, json_option
from asyncpipe.errors import Report, ScheduleError, UsageError
from asyncpipe.exchange.import_table import Imported, import_table
from asyncpipe.tables.chunks import PLACES
from asyncpipe.tables.csv_text import read_text
from asyncpipe.tables.read import DIALECTS, parse_table

__all__ = ["command"]


@click.command("import")
@click.argument("file", metavar="FILE")
@click.option("--from", "dialect", type=click.Choice(DIALECTS), required=True, help="Whose form FILE has.")
@click.option(
    "--out", metavar="NAME.yaml", type=click.Path(path_type=Path), required=True, help="NAME.csv lies beside."
)
@click.option("--stages", type=click.IntRange(1, 4096), help="How many stages there must be; default: as found.")
@click.option("--microbatches", type=click.IntRange(1, 4096), help="How many microbatches; default: as found.")
@click.option(
    "--place", type=click.Choice(PLACES), help="zero-bubble: where second chunks lie, if lines leave it open."
)
@click.option("--force", is_flag=True, help="Overwrite the two files.")
@json_option
def command(
    file: str,
    dialect: str,
    out: Path,
    stages: int | None,
    microbatches: int | None,
    place: str | None,
    force: bool,
    as_json: bool,
) -> None:
    """Make a schedule of an explicit order: NAME.yaml, and NAME.csv with the table.

    torch-csv is the compute-only CSV of torch.distributed.pipelining; zero-bubble is what that project prints, whose B
    is our I and BW our B. The order is verified, more strictly than by either; after an error nothing is written.
    """
    if out.suffix != ".yaml":
        raise UsageError(f"--out {out}: expected the name of a schedule, NAME.yaml", "the table is NAME.csv beside it")
    if place and dialect != "zero-bubble":
        raise UsageError("--place is for zero-bubble: a cell of torch's names its stage", "leave it out")
    report = Report()
    text = read_text(file, report)
    sizes = {"stages": stages, "microbatches": microbatches}
    table = None if text is None else parse_table(text, file, report, dialect, place=place, **sizes)
    if table is None or report.has_errors:
        raise ScheduleError(report.diagnostics)
    imported = import_table(table, out.stem)
    _write({out: imported.schedule, out.with_suffix(".csv"): imported.table}, Path(file), force)
    click.echo(render(report.diagnostics), err=True, nl=False)
    _say(imported, out, report, as_json)


def _write(texts: dict[Path, str], source: Path, force: bool) -> None:
    """Both files or none; the file that is read is never overwritten unasked."""
    there = [path for path in texts if path.exists()]
    if there and not force:
        names = " and ".join(map(str, there))
        raise UsageError(f"{names} exist{'s' if len(there) == 1 else ''}", "choose another name, or add --force")
    drafts = {path: path.with_name(f".{path.name}.{os.getpid()}") for path in texts}
    try:
        for path, text in texts.items():
            drafts[path].write_text(text, "utf-8", newline="\n")
        for path, draft in drafts.items():
            draft.replace(path)
    except OSError as error:
        raise UsageError(f"cannot write {error.filename}: {error.strerror}", "name another place with --out") from error
    finally:
        for draft in drafts.values():
            draft.unlink(missing_ok=True)


def _say(imported: Imported, out: Path, report: Report, as_json: bool) -> None:
    shape, table = imported.shape, out.with_suffix(".csv")
    if as_json:
        document = {
            "schema": "asyncpipe.import/1",
            "schedule": str(out),
            "table": str(table),
            "devices": shape.devices,
            "stages": shape.stages,
            "microbatches": shape.microbatches,
            "notes": [*(d.message for d in report.diagnostics), *imported.changes],
        }
        click.echo(json.dumps(document))
        return
    size = f"{counted(shape.stages, 'stage')} on {counted(shape.devices, 'device')}"
    click.echo(f"{out}, {table}: {size}, {counted(shape.microbatches, 'microbatch', 'microbatches')} for each update")
    for change in imported.changes:
        click.echo(f"  {change}")

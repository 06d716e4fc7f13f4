"""`asyncpipe tools report`: runs side by side, as a page and as PNGs."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from asyncpipe.cli.options import counted, json_option
from asyncpipe.errors import UsageError

__all__ = ["command"]


@click.command("report")
@click.argument("runs", metavar="RUN...", nargs=-1, required=True)
@click.option("--out", metavar="FOLDER", default="report", show_default=True, help="Where report.html and PNGs go.")
@click.option("--png", is_flag=True, help="Each picture as a PNG too; needs pillow.")
@click.option(
    "--target", type=click.FloatRange(0, 1), metavar="0..1", help="The accuracy of samples- and time-to-accuracy."
)
@json_option
def command(runs: Sequence[str], out: str, png: bool, target: float | None, as_json: bool) -> None:
    """Draw runs side by side: learning curves, staleness, divergence, schedules.

    RUN is a run directory or a folder around some. Runs that differ only in their seed are one group, drawn as mean and
    standard deviation. Runs that failed or cannot be read are left out, and named. Without --target the accuracy is the
    highest that every run came to.
    """
    from asyncpipe.tools.report.content import charts, common_accuracy, histograms, pictures, table
    from asyncpipe.tools.report.groups import group_runs, repeated_seeds
    from asyncpipe.tools.report.page import page, plain
    from asyncpipe.tools.report.runs import find_runs
    from asyncpipe.tools.report.scene import require_pillow

    if png:
        require_pillow()
    found = find_runs(runs)
    groups = group_runs(found.runs)
    notes = [*found.notes, *repeated_seeds(groups)]
    for note in notes:
        click.echo(f"warning: {note}", err=True)
    accuracy = common_accuracy(found.runs) if target is None else target
    rows, drawn, shares, plans = table(groups, accuracy), charts(groups), histograms(groups), pictures(groups)
    noun = "unfinished run" if found.runs[0].summary is None else "run"
    title = f"{counted(len(found.runs), noun)} of {', '.join(group.name for group in groups)}"
    folder = _folder(out)
    files = [folder / "report.html"]
    files[0].write_text(page(title, groups, rows, drawn, shares, plans, accuracy, notes), encoding="utf-8")
    if png:
        files += _write_pngs(folder, drawn, shares, plans)
    if as_json:
        numbers = {
            "schema": "asyncpipe.report/1",
            "accuracy": accuracy,
            "groups": [plain(row) for row in rows],
            "notes": notes,
        }
        click.echo(json.dumps({**numbers, "files": [str(file) for file in files]}))
    else:
        click.echo(f"{title}\n" + "\n".join(f"wrote {file}" for file in files))


def _folder(out: str) -> Path:
    path = Path(out)
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"--out {out}: cannot be made: {error.strerror}", "name another folder") from None
    return path


def _write_pngs(folder: Path, charts: Sequence[Any], histograms: Sequence[Any], pictures: Sequence[Any]) -> list[Path]:
    from asyncpipe.tools.report.chart import draw_chart, draw_histogram
    from asyncpipe.tools.report.scene import write_png
    from asyncpipe.tools.report.timelines import draw_timeline

    scenes = [(chart.name, draw_chart(chart)) for chart in charts]
    scenes += [(histogram.name, draw_histogram(histogram)) for histogram in histograms]
    scenes += [(p.name, draw_timeline(p.timeline, p.title)) for p in pictures if p.timeline is not None]
    files = []
    for name, scene in scenes:
        files.append(folder / f"{name}.png")
        write_png(scene, files[-1])
    return files

"""The report as one HTML page that loads nothing and runs no script."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from asyncpipe.pictures.svg import svg as timeline_svg
from asyncpipe.tools.report.chart import Chart, Histogram, draw_chart, draw_histogram
from asyncpipe.tools.report.content import STAGE_COLUMNS, Picture, stage_table
from asyncpipe.tools.report.groups import Group, Spread
from asyncpipe.tools.report.runs import Run
from asyncpipe.tools.report.scene import svg

__all__ = ["page", "plain"]

_STYLE = """\
:root { color-scheme: light dark; --line: #d9dee3; --quiet: #57606a }
@media (prefers-color-scheme: dark) { :root { --line: #3a434d; --quiet: #9aa4ae } }
body { margin: 0 auto; padding: 12px 20px 40px; max-width: 1240px; font: 14px/1.45 system-ui, sans-serif }
h1 { font-size: 19px } h2 { font-size: 16px; margin: 28px 0 8px }
.charts { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(540px, 100%), 1fr)); gap: 14px }
.charts figure { align-self: start }
figure { margin: 0; border: 1px solid var(--line); border-radius: 6px; overflow: hidden; background: #fff }
figure svg { display: block; width: 100%; height: auto }
.wide { overflow-x: auto; margin: 0 0 14px } .scroll { overflow-x: auto }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; font-size: 13px }
th, td { padding: 3px 16px 3px 0; text-align: right; border-bottom: 1px solid var(--line); vertical-align: top }
th:first-child, td:first-child { text-align: left } thead th { color: var(--quiet); font-weight: normal }
.quiet { color: var(--quiet) }
"""
_POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"
_COLUMNS = {
    "accuracy": ("test accuracy", True),
    "best_accuracy": ("best", True),
    "loss": ("test loss", False),
    "samples_to_accuracy": ("samples to {target}", False),
    "time_to_accuracy": ("time to {target}", False),
    "samples_per_s": ("samples/s", False),
    "sigma_stale_over_sgd": ("σ stale / σ SGD", False),
    "bias_bound": ("bias, bound", False),
    "bias_from_divergence": ("bias, from divergence", False),
}


def page(
    title: str,
    groups: Sequence[Group],
    rows: Sequence[Mapping[str, Any]],
    charts: Sequence[Chart],
    histograms: Sequence[Histogram],
    pictures: Sequence[Picture],
    accuracy: float | None,
    notes: Sequence[str] = (),
) -> str:
    """The whole page as text."""
    drawn = [(chart.name, draw_chart(chart)) for chart in charts]
    drawn += [(histogram.name, draw_histogram(histogram)) for histogram in histograms]
    figures = [f'<figure id="{name}">{svg(scene)}</figure>' for name, scene in drawn]
    runs = [run for group in groups for run in group.runs]
    numbers = {"accuracy": accuracy, "groups": [plain(row) for row in rows], "charts": [_values(c) for c in charts]}
    return "\n".join(
        [
            '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">',
            f"<title>{escape(title)}</title>\n<style>\n{_STYLE}</style>\n</head>\n<body>\n<h1>{escape(title)}</h1>",
            _groups_table(rows, accuracy),
            *(f'<p class="quiet">{escape(note)}</p>' for note in notes),
            '<h2>Learning, staleness, divergence</h2>\n<p class="quiet">Lines are means over the runs of a group, '
            "bands one standard deviation on either side; a group without a band has one run.</p>",
            '<div class="charts">',
            *figures,
            "</div>\n<h2>Stages</h2>",
            _stages_table(groups),
            "<h2>Schedules</h2>",
            *map(_picture, pictures),
            "<h2>Runs</h2>",
            _runs_table(runs),
            f'<p class="quiet">{escape(_machines(runs))}</p>',
            f'<script type="application/json" id="data">{_json(numbers)}</script>',
            "</body>\n</html>\n",
        ]
    )


def plain(row: Mapping[str, Any]) -> dict[str, Any]:
    """A row of the table as JSON values."""
    return {
        key: {"mean": value.mean, "deviation": value.deviation, "runs": value.runs}
        if isinstance(value, Spread)
        else value
        for key, value in row.items()
    }


def _groups_table(rows: Sequence[Mapping[str, Any]], accuracy: float | None) -> str:
    shown = {key: column for key, column in _COLUMNS.items() if any(row[key] is not None for row in rows)}
    target = "" if accuracy is None else f"{100 * accuracy:.4g} %"
    names = ["schedule", "runs", *(name.format(target=target) for name, _ in shown.values())]
    lines = []
    for row in rows:
        cells = [
            escape(row["name"]),
            str(row["runs"]) + (f", {row['unfinished']} unfinished" * bool(row["unfinished"])),
        ]
        for key, (_, percent) in shown.items():
            unit = f" {row['time_unit']}" if key == "time_to_accuracy" else ""
            cells.append(_spread_text(row[key], percent, row["runs"]) + unit * (row[key] is not None))
        lines.append(cells)
    return _table("groups", names, lines)


def _stages_table(groups: Sequence[Group]) -> str:
    runs = {group.name: len(group.runs) for group in groups}
    rows = [
        [escape(name), str(stage), *(_spread_text(value, False, runs[name]) for value in values)]
        for name, stage, values in stage_table(groups)
    ]
    return _table("stages", ["schedule", "stage", *(title for title, _ in STAGE_COLUMNS)], rows)


def _spread_text(value: Spread | None, percent: bool, runs: int) -> str:
    if value is None:
        return "–"
    factor, unit = (100, " %") if percent else (1, "")
    around = "" if value.deviation is None else f" ± {_short(factor * value.deviation, 2)}"
    some = f" ({value.runs} of {runs})" if value.runs < runs else ""
    return f"{_short(factor * value.mean)}{around}{unit}{some}"


def _short(value: float, digits: int = 4) -> str:
    """So many digits that count, and all before the point."""
    return f"{value:.0f}" if abs(value) >= 10**digits else f"{value:.{digits}g}"


def _runs_table(runs: Sequence[Run]) -> str:
    names = ["run", "schedule", "job", "back end", "seed", "stages", "updates", "samples", "test accuracy", "staleness"]
    return _table("runs", names, [_run_cells(run) for run in runs])


def _run_cells(run: Run) -> list[str]:
    head = [escape(str(run.folder)), escape(run.schedule.name), escape(run.job_name), run.backend, str(run.seed)]
    summary = run.summary
    if summary is None:
        last = run.evaluations[-1] if run.evaluations else {"step": 0, "samples": 0, "accuracy": None}
        return [*head, "unfinished", str(last["step"]), str(last["samples"]), _percent(last["accuracy"]), "–"]
    stale = " ".join("–" if value is None else f"{value:.3g}" for value in summary["staleness_measured"]["apply"][:12])
    more = " …" * (len(summary["staleness_measured"]["apply"]) > 12)
    numbers = [str(summary[key]) for key in ("stages", "steps", "samples")]
    return [*head, *numbers, _percent(summary["eval"]["accuracy"]), stale + more]


def _percent(value: float | None) -> str:
    return "–" if value is None else f"{100 * value:.2f} %"


def _table(name: str, titles: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    head = "".join(f'<th scope="col">{escape(title)}</th>' for title in titles)
    body = "\n".join(f"<tr>{''.join(f'<td>{cell}</td>' for cell in row)}</tr>" for row in rows)
    table = f'<table id="{name}"><thead><tr>{head}</tr></thead>\n<tbody>\n{body}\n</tbody></table>'
    return f'<div class="scroll">{table}</div>'


def _picture(picture: Picture) -> str:
    if picture.timeline is None:
        return f'<p class="quiet">{escape(picture.title)}: no picture, {escape(picture.reason)}</p>'
    # As an image: its style sheet must not reach the page.
    data = base64.b64encode(timeline_svg(picture.timeline, picture.title).encode()).decode()
    name, text = escape(picture.name), escape(picture.title)
    return f'<figure class="wide" id="{name}"><img alt="{text}" src="data:image/svg+xml;base64,{data}"></figure>'


def _machines(runs: Sequence[Run]) -> str:
    """On what the runs were made, each kind of machine once."""
    found = []
    for run in runs:
        environment = run.environment
        if environment:
            versions, cpu = environment.get("versions") or {}, environment.get("cpu") or {}
            words = [f"{name} {versions[name]}" for name in ("asyncpipe", "torch") if versions.get(name)]
            found.append(", ".join([*words, f"{cpu.get('model')}, {cpu.get('usable')} usable cores"]))
    return "; ".join(dict.fromkeys(found)) or "The runs do not say on what machine they were made."


def _values(chart: Chart) -> dict[str, Any]:
    curves = [
        {"name": c.name, "x": c.x, "mean": c.mean, "low": c.low, "high": c.high, "style": c.style} for c in chart.curves
    ]
    return {"name": chart.name, "title": chart.title, "x_label": chart.x_label, "curves": curves}


def _json(value: Any) -> str:
    """JSON that no HTML parser takes for markup."""
    text = json.dumps(value, separators=(",", ":"), allow_nan=False)
    return text.replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e")

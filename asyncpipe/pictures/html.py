"""Timelines as one HTML page that needs nothing else: zoom, hover, what a box waited for, counters, numbers as text."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

from asyncpipe.ir import Op
from asyncpipe.pictures.axis import number
from asyncpipe.pictures.counters import IN_FLIGHT, STALENESS, Counter, counters
from asyncpipe.pictures.palette import HATCH, LOOKS, Look, legend
from asyncpipe.pictures.timeline import Box, Timeline

__all__ = ["MOST_BOXES", "Panel", "html"]

MOST_BOXES = 500_000
"""More make a page that browsers open slowly or not at all."""
_SCRIPTS = ("model.js", "view.js", "draw.js", "input.js", "selftest.js")


@dataclass(frozen=True)
class Panel:
    """One timeline of a page, such as the plan; `facts` are (name, value) for its summary."""

    name: str
    timeline: Timeline
    facts: tuple[tuple[str, str], ...] = ()


def html(title: str, panels: Sequence[Panel]) -> Iterator[str]:
    """The page, piece by piece; its timelines share one time axis. ValueError with more than `MOST_BOXES` boxes."""
    size = sum(panel.timeline.size for panel in panels)
    if size > MOST_BOXES:
        raise ValueError(f"a page shows at most {MOST_BOXES:,} boxes, not {size:,}")
    counted = [counters(panel.timeline) for panel in panels]
    ops = {box.action.op for panel in panels for row in panel.timeline.rows for box in row.boxes}
    parts = {
        "title": [escape(title)],
        "style": [_text("page.css")],
        "script": [f"<script>\n{_text(name)}</script>\n" for name in _SCRIPTS],
        "legend": [_swatch(*entry) for entry in legend(ops)],
        "summary": (_summary(panel, own) for panel, own in zip(panels, counted, strict=True)),
        "data": _data(panels, counted, ops),
    }
    # The pieces of the template alternate with the names of what goes between them.
    for i, piece in enumerate(re.split(r"@(\w+)@", _text("page.html"))):
        yield from parts[piece] if i % 2 else [piece]


def _text(name: str) -> str:
    from importlib.resources import files

    return (files("asyncpipe.pictures") / "page" / name).read_text("utf-8")


def _swatch(letters: str, words: str, look: Look) -> str:
    lines = f'<path d="{look.hatch}" stroke="{look.ink}" stroke-opacity=".18"/>' * bool(look.hatch)
    colour = f'<rect width="{HATCH}" height="{HATCH}" fill="{look.colour}"/>'
    picture = f'<svg viewBox="0 0 {HATCH} {HATCH}" preserveAspectRatio="xMidYMid slice" aria-hidden="true">'
    return f"<li>{picture}{colour}{lines}</svg>{letters} {words}</li>\n"


def _data(panels: Sequence[Panel], counted: Sequence[Sequence[Counter]], ops: set[Op]) -> Iterator[str]:
    """JSON that no HTML parser takes for markup, a row at a time."""
    looks = {
        op.value: {"colour": LOOKS[op].colour, "ink": LOOKS[op].ink, "hatch": LOOKS[op].hatch, "words": op.words}
        for op in LOOKS
        if op in ops
    }
    unit = panels[0].timeline.unit if panels else "cost unit"
    yield f'{{"unit":{_json(unit)},"hatch":{HATCH},"ops":{_json(looks)},"panels":['
    for i, (panel, own) in enumerate(zip(panels, counted, strict=True)):
        yield f'{"," * bool(i)}{{"name":{_json(panel.name)},"end":{_json(_short(panel.timeline.end))},"rows":['
        for j, row in enumerate(panel.timeline.rows):
            boxes = [_box(box) for box in row.boxes]
            yield "," * bool(j) + _json({"name": row.name, "device": row.device, "boxes": boxes})
        yield f'],"counters":{_json([_counter(counter) for counter in own])}}}'
    yield "]}"


def _json(value: Any) -> str:
    text = json.dumps(value, separators=(",", ":"), allow_nan=False)
    return text.replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e")


def _box(box: Box) -> list[Any]:
    """[action, start, end, reads, writes, staleness, waited], without what is missing at the end."""
    waited = [[name, _short(time)] for name, time in box.waited] or None
    values = [str(box.action), _short(box.start), _short(box.end), box.reads, box.writes, box.staleness, waited]
    while values[-1] is None:
        values.pop()
    return values


def _counter(counter: Counter) -> dict[str, Any]:
    steps = [[_short(time), value] for time, value in counter.steps]
    return {"name": counter.name, "stage": counter.stage, "most": counter.most, "steps": steps}


def _short(value: float) -> float | int:
    return int(value) if value == int(value) else value


def _summary(panel: Panel, own: Sequence[Counter]) -> str:
    timeline = panel.timeline
    work = sum(row.busy for row in timeline.rows)
    facts = [*panel.facts, ("makespan", number(timeline.end)), ("work", number(work))]
    described = "".join(f"<div><dt>{escape(name)}</dt><dd>{escape(value)}</dd></div>" for name, value in facts)
    tables = f'<div class="tables">{_streams(timeline)}{_stages(own)}</div>'
    return f"<section>\n<h2>{escape(panel.name)}</h2>\n<dl>{described}</dl>\n{tables}\n</section>\n"


def _streams(timeline: Timeline) -> str:
    end = timeline.end or 1.0
    rows = [
        (row.name, row.device, len(row.boxes), number(row.busy), f"{row.busy / end:.1%}", number(row.idle))
        for row in timeline.rows
    ]
    return _table("Streams", ("stream", "device", "actions", "busy", "utilisation", "waited for events"), rows)


def _stages(own: Sequence[Counter]) -> str:
    """The steady part is what the last updates show, so the last staleness stands beside the highest."""
    found = {(counter.stage, counter.name): counter for counter in own}
    rows = []
    for stage in sorted({counter.stage for counter in own}):
        staleness, held = found.get((stage, STALENESS)), found.get((stage, IN_FLIGHT))
        updates = (len(staleness.steps), staleness.most, _mean(staleness)) if staleness else ("0", "", "")
        rows.append((stage, *updates, held.most if held else ""))
    return _table("Stages", ("stage", "updates", "staleness, most", "staleness, mean", "in flight, most"), rows)


def _mean(counter: Counter) -> str:
    return number(sum(value for _, value in counter.steps) / len(counter.steps), 3)


def _table(caption: str, head: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    titles = "".join(f'<th scope="col">{name}</th>' for name in head)
    lines = []
    for name, *values in rows:
        cells = "".join(f"<td>{escape(str(value))}</td>" for value in values)
        lines.append(f'<tr><th scope="row">{escape(str(name))}</th>{cells}</tr>\n')
    body = f"<thead><tr>{titles}</tr></thead>\n<tbody>\n{''.join(lines)}</tbody>"
    return f"<table>\n<caption>{caption}</caption>\n{body}\n</table>\n"

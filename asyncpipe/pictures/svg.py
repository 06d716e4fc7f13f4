"""The stream x time diagram as one SVG file: a row for each stream, hover texts, axis and legend."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from html import escape
from itertools import groupby

from asyncpipe.ir import Op
from asyncpipe.pictures.axis import number, ticks
from asyncpipe.pictures.describe import describe
from asyncpipe.pictures.palette import HATCH, LOOKS, legend
from asyncpipe.pictures.timeline import Box, Row, Timeline

__all__ = ["MOST_BOXES", "svg"]

MOST_BOXES = 20_000
"""More make files that viewers cannot handle."""

_LANE, _GAP, _MARK, _MARKS = 22.0, 6.0, 12.0, 48.0
"""Pixels: a row of boxes, the space below, one mark, all marks of one instant."""
_LETTER, _SMALL, _MARGIN = 6.7, 5.5, 12.0
_NARROWEST, _WIDEST = 520.0, 30_000.0
_STYLE = """\
text { font: 11px ui-monospace, Menlo, Consolas, "DejaVu Sans Mono", monospace; fill: #14181d }
.paper { fill: #ffffff } .idle { fill: #f0f2f4 } .grid { stroke: #d4d9de } .device { stroke: #8b949e }
.title { font-size: 14px; font-weight: bold } .quiet { fill: #57606a } .mark { font-size: 9px }
.in { text-anchor: middle }
@media (prefers-color-scheme: dark) {
text { fill: #e6e9ec } .paper { fill: #14181d } .idle { fill: #20262d } .grid { stroke: #333b44 }
.quiet { fill: #9aa4ae } }
"""


@dataclass(frozen=True)
class _Frame:
    """Where time 0 lies, and how many pixels one unit of time takes."""

    left: float
    scale: float
    end: float

    def x(self, time: float) -> float:
        return self.left + time * self.scale

    @property
    def right(self) -> float:
        return self.x(self.end)


def svg(timeline: Timeline, title: str) -> str:
    """The picture as text; ValueError with more than `MOST_BOXES` boxes."""
    if timeline.size > MOST_BOXES:
        raise ValueError(f"an SVG shows at most {MOST_BOXES:,} boxes, not {timeline.size:,}")
    frame = _frame(timeline)
    ops = {box.action.op for row in timeline.rows for box in row.boxes}
    top = 2 * _MARGIN + 14
    body: list[str] = []
    height = top
    for row_lines, row_height in _rows(timeline, frame, top):
        body += row_lines
        height += row_height
    axis = list(_axis(frame, top, height, timeline.unit))
    key = list(_legend(ops, height + 44))
    key_width = sum(_legend_width(letters, words) for letters, words, _ in legend(ops))
    width = max(_NARROWEST, frame.right + 2 * _MARGIN, _MARGIN + key_width)
    head = list(_head(title, width, height + 60, ops))
    return "\n".join([*head, *axis, *body, *key, "</svg>"]) + "\n"


def _frame(timeline: Timeline) -> _Frame:
    """As wide as labels in the shortest box need, within limits."""
    names = max((len(row.name) for row in timeline.rows), default=0)
    boxes = [box for row in timeline.rows for box in row.boxes if box.end > box.start]
    boxes = [box for box in boxes if not box.action.op.is_transfer] or boxes
    shortest = min((box.end - box.start for box in boxes), default=1.0)
    letters = max((len(str(box.action)) for box in boxes), default=3)
    end = timeline.end or 1.0
    scale = min((letters * _LETTER + 6) / shortest, _WIDEST / end)
    return _Frame(2 * _MARGIN + names * _LETTER, scale, timeline.end)


def _head(title: str, width: float, height: float, ops: set[Op]) -> Iterator[str]:
    size = f"{number(width, 1)} {number(height, 1)}"
    pixels = 'width="{}" height="{}"'.format(*size.split())
    yield f'<svg xmlns="http://www.w3.org/2000/svg" {pixels} viewBox="0 0 {size}" role="img">'
    yield f"<title>{escape(title)}</title>"
    yield f"<style>\n{_STYLE}</style>"
    yield "<defs>"
    yield from (_pattern(op) for op in LOOKS if op in ops)
    yield "</defs>"
    yield '<rect class="paper" width="100%" height="100%"/>'
    yield f'<text class="title" x="{number(_MARGIN)}" y="{number(_MARGIN + 12)}">{escape(title)}</text>'


def _pattern(op: Op) -> str:
    look, tile = LOOKS[op], f'width="{HATCH}" height="{HATCH}"'
    lines = f'<path d="{look.hatch}" stroke="{look.ink}" stroke-opacity=".18"/>' if look.hatch else ""
    colour = f'<rect {tile} fill="{look.colour}"/>'
    return f'<pattern id="{op}" {tile} patternUnits="userSpaceOnUse">{colour}{lines}</pattern>'


def _rows(timeline: Timeline, frame: _Frame, top: float) -> Iterator[tuple[list[str], float]]:
    """(lines, height) of each stream, and of a heading for each device where there are several."""
    several = len({row.device for row in timeline.rows}) > 1
    y = top
    for device, rows in groupby(sorted(timeline.rows, key=lambda row: row.device), key=lambda row: row.device):
        if several:
            yield _device(device, frame, y), 20.0
            y += 20.0
        for row in rows:
            lines, height = _row(row, frame, y)
            yield lines, height
            y += height


def _device(device: int, frame: _Frame, y: float) -> list[str]:
    line = f'<path class="device" d="M{number(_MARGIN)} {number(y + 2)}H{number(frame.right, 2)}"/>'
    return [line, f'<text class="quiet" x="{number(_MARGIN)}" y="{number(y + 15)}">device {device}</text>']


def _row(row: Row, frame: _Frame, y: float) -> tuple[list[str], float]:
    """A lane of boxes, and below it a lane of marks, each where there is something to show."""
    boxes = [box for box in row.boxes if box.end > box.start]
    instants = [list(same) for _, same in groupby((b for b in row.boxes if b.end == b.start), key=lambda b: b.start)]
    lane = _LANE if boxes or not instants else 0.0
    most = max(map(len, instants), default=0)
    below = min(_MARKS, most * _MARK)
    middle = y + (lane or max(below, 14.0)) / 2 + 4
    lines = [f'<text x="{number(_MARGIN)}" y="{number(middle, 2)}">{escape(row.name)}</text>']
    if lane:
        width = number(frame.right - frame.left, 2)
        lines.append(f'<rect class="idle" x="{number(frame.left)}" y="{number(y)}" width="{width}" height="{lane:g}"/>')
    lines += [_box(box, row.name, frame, y) for box in boxes]
    nexts = [*(frame.x(same[0].start) for same in instants[1:]), frame.right + 2 * _MARGIN]
    for same, until in zip(instants, nexts, strict=False):
        lines += _marks(same, row.name, frame, y + lane, until, min(_MARK, below / most))
    return lines, max(lane + below, 14.0) + _GAP


def _box(box: Box, stream: str, frame: _Frame, y: float) -> str:
    x, width = frame.x(box.start), max(0.5, (box.end - box.start) * frame.scale - 1)
    text = _label(box, width)
    ink = LOOKS[box.action.op].ink
    label = f'<text class="in" x="{number(x + width / 2, 2)}" y="{number(y + 15)}" style="fill:{ink}">{text}</text>'
    place = f'x="{number(x, 2)}" y="{number(y)}" width="{number(width, 2)}" height="{_LANE:g}" rx="2"'
    rect = f'<rect {place} fill="url(#{box.action.op})"/>'
    return f"<g><title>{escape(describe(box, stream))}</title>{rect}{label if text else ''}</g>"


def _label(box: Box, width: float) -> str:
    """The action's text, or its index where that is too long, or nothing."""
    return next((t for t in (str(box.action), str(box.action.index)) if len(t) * _LETTER <= width), "")


def _marks(same: list[Box], stream: str, frame: _Frame, top: float, until: float, pitch: float) -> Iterator[str]:
    """What takes no time, at one instant: triangles below each other, labelled where there is room."""
    x = frame.x(same[0].start)
    for i, box in enumerate(same):
        y = top + i * pitch
        text = str(box.action)
        fits = pitch >= _MARK and x + 10 + len(text) * _SMALL <= until
        label = f'<text class="mark" x="{number(x + 5, 2)}" y="{number(y + 10, 2)}">{text}</text>' if fits else ""
        shape = f'<path d="M{number(x, 2)} {number(y + 1, 2)}l-4 8h8z" fill="{LOOKS[box.action.op].colour}"/>'
        yield f"<g><title>{escape(describe(box, stream))}</title>{shape}{label}</g>"


def _axis(frame: _Frame, top: float, bottom: float, unit: str) -> Iterator[str]:
    for time in ticks(frame.end, 56 / frame.scale):
        x = number(frame.x(time), 2)
        yield f'<path class="grid" d="M{x} {number(top - 4)}V{number(bottom + 4)}"/>'
        yield f'<text class="quiet in" x="{x}" y="{number(bottom + 16)}">{number(time)}</text>'
    words = "time" if unit == "cost unit" else f"time, {unit}"
    yield f'<text class="quiet" x="{number(_MARGIN)}" y="{number(bottom + 16)}">{escape(words)}</text>'


def _legend(ops: set[Op], y: float) -> Iterator[str]:
    x = _MARGIN
    for letters, words, _ in legend(ops):
        first = next(op for op in LOOKS if op in ops and op.value.startswith(letters))
        yield f'<rect x="{number(x)}" y="{number(y - 10)}" width="14" height="12" rx="2" fill="url(#{first})"/>'
        yield f'<text x="{number(x + 19)}" y="{number(y)}">{letters} {words}</text>'
        x += _legend_width(letters, words)


def _legend_width(letters: str, words: str) -> float:
    return 40 + (len(letters) + 1 + len(words)) * _LETTER

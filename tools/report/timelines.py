"""The timeline of a schedule as a scene: what `asyncpipe show --svg` draws, for a PNG."""

from __future__ import annotations

from collections.abc import Iterator

from asyncpipe.ir import Op
from asyncpipe.pictures.axis import number, ticks
from asyncpipe.pictures.palette import LOOKS, legend
from asyncpipe.pictures.timeline import Box, Row, Timeline
from asyncpipe.tools.report.scene import QUIET, Area, Label, Line, Rect, Scene, Shape

__all__ = ["draw_timeline"]

_LANE, _MARKS, _MARGIN, _TOP = 20.0, 12.0, 12.0, 40.0
_LETTER, _SIZE = 6.2, 10.0
_WIDEST = 4000.0


def draw_timeline(timeline: Timeline, title: str) -> Scene:
    """A row for each stream, with the ops' colours; updates that take no time are triangles below."""
    left = 2 * _MARGIN + _LETTER * max((len(row.name) for row in timeline.rows), default=0)
    scale = _scale(timeline)
    shapes: list[Shape] = [Label(_MARGIN, 22, title, size=13)]
    bottom = _TOP + len(timeline.rows) * (_LANE + _MARKS + 4)
    right = left + timeline.end * scale
    for time in ticks(timeline.end, 50 / scale):
        x = left + time * scale
        shapes += [
            Line(((x, _TOP - 4), (x, bottom)), "#d4d9de"),
            Label(x, bottom + 14, number(time), "middle", 10, QUIET),
        ]
    for i, row in enumerate(timeline.rows):
        shapes += _row(row, _TOP + i * (_LANE + _MARKS + 4), left, right, scale)
    ops = {box.action.op for row in timeline.rows for box in row.boxes}
    shapes += _key(ops, bottom + 36)
    return Scene(max(right, 480.0) + 2 * _MARGIN, bottom + 48, title, tuple(shapes))


def _scale(timeline: Timeline) -> float:
    """Wide enough for the text of the shortest box, within limits."""
    boxes = [box for row in timeline.rows for box in row.boxes if box.end > box.start and not box.action.op.is_transfer]
    shortest = min((box.end - box.start for box in boxes), default=1.0)
    letters = max((len(str(box.action)) for box in boxes), default=3)
    return min((letters * _LETTER + 6) / shortest, _WIDEST / (timeline.end or 1.0))


def _row(row: Row, y: float, left: float, right: float, scale: float) -> Iterator[Shape]:
    yield Label(_MARGIN, y + 14, row.name)
    yield Rect(left, y, right - left, _LANE, "#f0f2f4")
    for box in row.boxes:
        yield from _box(box, y, left + box.start * scale, (box.end - box.start) * scale)


def _box(box: Box, y: float, x: float, width: float) -> Iterator[Shape]:
    look = LOOKS[box.action.op]
    if not width:
        yield Area(((x, y + _LANE), (x - 4, y + _LANE + 8), (x + 4, y + _LANE + 8)), look.colour, 1.0)
        return
    yield Rect(x, y, max(0.5, width - 1), _LANE, look.colour)
    text = next((t for t in (str(box.action), str(box.action.index)) if len(t) * _LETTER <= width), "")
    if text:
        yield Label(x + width / 2, y + 14, text, "middle", _SIZE, look.ink)


def _key(ops: set[Op], y: float) -> Iterator[Shape]:
    x = _MARGIN
    for letters, words, look in legend(ops):
        yield Rect(x, y - 10, 14, 12, look.colour)
        yield Label(x + 19, y, f"{letters} {words}")
        x += 40 + (len(letters) + 1 + len(words)) * _LETTER

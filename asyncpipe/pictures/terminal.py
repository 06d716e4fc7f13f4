"""The stream x time diagram in a terminal: boxes by op, idle time as dots, updates that take no time as marks.

Streams that only communicate, at no cost, are named in one line instead.
"""

from __future__ import annotations

import math

from asyncpipe.ir import Op
from asyncpipe.pictures.axis import number, round_step
from asyncpipe.pictures.palette import LOOKS
from asyncpipe.pictures.timeline import Box, Row, Timeline

__all__ = ["draw", "scale_for"]

_IDLE = "."
_MOST = 12
"""Columns for the shortest box, at most."""


def scale_for(timeline: Timeline) -> int:
    """Columns per unit of time, so that labels fit into the shortest box."""
    boxes = [box for row in timeline.rows for box in row.boxes if box.end > box.start]
    boxes = [box for box in boxes if not _is_communication(box)] or boxes
    shortest = min((box.end - box.start for box in boxes), default=1.0)
    label = max((len(str(box.action)) for box in boxes), default=3)
    return max(1, min(_MOST, math.ceil((label + 1) / shortest)))


def draw(timeline: Timeline, width: int = 100, colour: bool = False) -> str:
    """The diagram, cut at `width` columns; the last line of a cut picture says how much is missing.

    Measured times are no multiples of anything, so they are scaled to the width.
    """
    hidden = [row.name for row in timeline.rows if _takes_no_time(row)]
    rows = [row for row in timeline.rows if row.name not in hidden]
    is_planned = timeline.unit == "cost unit"
    title = "time" if is_planned else f"time, {timeline.unit}"
    names = max([len(row.name) for row in rows] + [0 if is_planned else len(title)], default=0)
    room = max(20, width - names - 3)
    scale = scale_for(timeline) if is_planned else room / (timeline.end or 1.0)
    lines = []
    for row in rows:
        lines.append(f"{row.name:<{names}} |{_boxes(row, scale, room, timeline.end, colour)}|")
        lines += [f"{'':<{names}} |{marks}" for marks in _marks(row, scale, room)]
    least = max(1.0, 5 / scale) if is_planned else 8 / scale
    lines.append(f"{title:<{names}}  {_axis(timeline.end, scale, room, least)}")
    if timeline.end * scale > room + 0.5:
        enough = math.ceil(timeline.end * scale) + names + 3
        seen = f"(the first {room / scale:g} of {timeline.end:g}; --width {enough} shows all)"
        lines.append(f"{'':<{names}}  {seen}")
    lines += [_hidden(hidden, names, width)] if hidden else []
    return "\n".join(lines) + "\n"


def _is_communication(box: Box) -> bool:
    return box.action.op is Op.SYNC or box.action.op.is_transfer


def _takes_no_time(row: Row) -> bool:
    """Whether a stream only communicates, and that costs nothing."""
    return bool(row.boxes) and all(box.end == box.start and _is_communication(box) for box in row.boxes)


def _hidden(names: list[str], indent: int, width: int) -> str:
    """One line that names the streams that are not drawn, as many as fit."""
    text = f"{'':<{indent}}  (nothing takes time on "
    for shown in range(len(names), 0, -1):
        more = f" and {len(names) - shown} more" if shown < len(names) else ""
        line = f"{text}{', '.join(names[:shown])}{more})"
        if len(line) <= width:
            return line
    return f"{text}{len(names)} streams)"


def _boxes(row: Row, scale: float, room: int, end: float, colour: bool) -> str:
    cells = [_IDLE] * min(room, round(end * scale))
    paint: list[str] = [""] * len(cells)
    for box in row.boxes:
        if box.end == box.start:
            continue
        first, last = round(box.start * scale), round(box.end * scale)
        text = _label(box, last - first)
        for i, character in enumerate(text):
            if first + i < len(cells):
                cells[first + i] = character
                paint[first + i] = LOOKS[box.action.op].ansi if i < len(text) - 1 or len(text) == 1 else ""
    return "".join(cells) if not colour else _painted(cells, paint)


def _label(box: Box, length: int) -> str:
    """The action's text, or its microbatch where that is too long, filled up by op; the last column stays free."""
    fill = LOOKS[box.action.op].fill
    for text in (str(box.action), str(box.action.index), ""):
        if len(text) < length or not text:
            return (text + fill * length)[: max(1, length - 1)] + (" " if length > 1 else "")
    return ""


def _painted(cells: list[str], paint: list[str]) -> str:
    parts = []
    for i, (character, colour) in enumerate(zip(cells, paint, strict=True)):
        if i == 0 or colour != paint[i - 1]:
            parts.append(f"\x1b[0m\x1b[{colour}m" if colour else "\x1b[0m")
        parts.append(character)
    return "".join(parts) + "\x1b[0m"


def _marks(row: Row, scale: float, room: int) -> list[str]:
    """`^1U3` below the instant at which an update takes effect; several at one instant share the mark.

    A mark that would run into the one before it goes into the next line.
    """
    instants: dict[int, list[str]] = {}
    for box in row.boxes:
        if box.end == box.start and round(box.start * scale) < room:
            instants.setdefault(round(box.start * scale), []).append(str(box.action))
    lines: list[str] = []
    for column, actions in instants.items():
        place = next((i for i, line in enumerate(lines) if len(line) <= column), len(lines))
        lines += [""] if place == len(lines) else []
        lines[place] = lines[place].ljust(column) + f"^{' '.join(actions)}"
    return [line[:room] for line in lines]


def _axis(end: float, scale: float, room: int, least: float) -> str:
    """Round numbers at least `least` apart."""
    step = round_step(least)
    line = ""
    count = 0
    while (time := count * step) * scale < min(room, end * scale + 1):
        line += " " * (round(time * scale) - len(line)) + number(time)
        count += 1
    return line

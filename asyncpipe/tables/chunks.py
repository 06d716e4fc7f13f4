"""Where the chunks of printed zero-bubble lines lie: items with a device and a chunk become rows with stages."""

from __future__ import annotations

from collections import Counter, defaultdict
from typing import NamedTuple

from asyncpipe.errors import Position, Report
from asyncpipe.ir import Action, Op
from asyncpipe.tables.cells import Place, Rows
from asyncpipe.tables.deadlock import blocked_rows
from asyncpipe.tables.index import data_sources

__all__ = ["PLACES", "Item", "place_chunks", "whole_backwards"]

PLACES = ("v", "loop")
"""Device d has the stages d and S - 1 - d, or d and D + d."""


class Item(NamedTuple):
    """A computation as printed. `stage` is None where only device and chunk are known."""

    device: int
    chunk: int
    stage: int | None
    op: Op
    microbatch: int
    place: Place


def whole_backwards(items: list[Item]) -> list[Item]:
    """A printed `b` is BW where its microbatch has no `w`."""
    halves = {(i.device, i.chunk, i.microbatch) for i in items if i.op is Op.W}
    return [
        i._replace(op=Op.B) if i.op is Op.I and (i.device, i.chunk, i.microbatch) not in halves else i for i in items
    ]


def place_chunks(items: list[Item], file: str, report: Report, place: str | None) -> Rows | None:
    """The rows; where the items leave it open, second chunks lie where the order is possible. AP138 if both are."""
    devices = max(item.device for item in items) + 1
    if _ambiguous(items):
        where = Position(file, *next(item.place for item in items if item.chunk))
        message = "a line shows no difference between second and third chunks"
        report.error("AP138", message, where, "import what `print(local_order)` writes")
        return None
    if all(item.stage is not None for item in items) or max(item.chunk for item in items) == 0:
        return _rows(items, devices, file, "loop")
    fitting = [name for name in ((place,) if place else PLACES) if _runs(_rows(items, devices, file, name))]
    if len(fitting) == 1 or place or devices == 1:
        return _rows(items, devices, file, fitting[0] if fitting else place or "loop")
    where = Position(file, *next(item.place for item in items if item.chunk))
    if fitting:
        message = "second chunks can lie as a V (device d has stage S - 1 - d) or in a loop (stage D + d)"
    else:
        message = "second chunks lie neither as a V nor in a loop: each order would deadlock"
    report.error("AP138", message, where, "say which it is with --place v or --place loop")
    return None


def _ambiguous(items: list[Item]) -> bool:
    """Whether capitals stand for more than one chunk: then they repeat, and on every device."""
    seen = Counter((i.device, i.op, i.microbatch) for i in items if i.stage is None and i.chunk)
    return bool(seen) and min(seen.values()) > 1


def _rows(items: list[Item], devices: int, file: str, place: str) -> Rows:
    cells: dict[int, list[tuple[Action, Place]]] = defaultdict(list)
    for item in items:
        stage = item.stage
        if stage is None:
            up = place == "v" and item.chunk % 2 == 1
            stage = item.chunk * devices + (devices - 1 - item.device if up else item.device)
        cells[item.device].append((Action(stage, item.op, item.microbatch), item.place))
    rows = [cells[device] for device in range(devices)]
    actions = tuple(tuple(action for action, _ in row) for row in rows)
    return Rows(actions, tuple(tuple(where for _, where in row) for row in rows), file)


def _runs(rows: Rows) -> bool:
    cells = {action: (d, step) for d, row in enumerate(rows.actions) for step, action in enumerate(row)}
    return not blocked_rows(rows, cells, data_sources(cells), inside=True)

"""Timelines of one program beside each other: cut to a part of the time, row by row on one axis."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import replace

from asyncpipe.ir import Op
from asyncpipe.pictures.timeline import Box, Row, Timeline, Unit

__all__ = ["clipped", "interleaved", "rescaled", "with_rows_of"]


def clipped(timeline: Timeline, begin: float, end: float) -> Timeline:
    """What lies between `begin` and `end`, from time 0 on; boxes on an edge are cut."""

    def part(boxes: tuple[Box, ...]) -> Iterator[Box]:
        for box in boxes:
            if box.end > begin and box.start < end:
                yield replace(box, start=max(box.start, begin) - begin, end=min(box.end, end) - begin)

    rows = tuple(replace(row, boxes=tuple(part(row.boxes))) for row in timeline.rows)
    return Timeline(rows, end - begin, timeline.unit)


def rescaled(timeline: Timeline, factor: float, unit: Unit) -> Timeline:
    """The same times in another unit: each times `factor`."""

    def scaled(box: Box) -> Box:
        waited = tuple((name, time * factor) for name, time in box.waited)
        return replace(box, start=box.start * factor, end=box.end * factor, waited=waited)

    rows = tuple(replace(row, boxes=tuple(map(scaled, row.boxes))) for row in timeline.rows)
    return Timeline(rows, timeline.end * factor, unit)


def with_rows_of(timeline: Timeline, ops: Collection[Op]) -> Timeline:
    """Without the rows that have none of these ops."""
    rows = tuple(row for row in timeline.rows if any(box.action.op in ops for box in row.boxes))
    return replace(timeline, rows=rows)


def interleaved(timelines: Mapping[str, Timeline]) -> Timeline:
    """The first row of each, then the second, and so on: `forward measured`, `forward simulated`, ..."""
    columns = [[(name, row) for row in timeline.rows] for name, timeline in timelines.items()]
    rows = tuple(_named(name, row) for rank in zip(*columns, strict=True) for name, row in rank)
    first = next(iter(timelines.values()))
    return Timeline(rows, max(timeline.end for timeline in timelines.values()), first.unit)


def _named(name: str, row: Row) -> Row:
    return replace(row, name=f"{row.name} {name}")

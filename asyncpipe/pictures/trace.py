"""A timeline as JSON trace events, for Perfetto and chrome://tracing.

A device is a process, a stream a thread. What takes no time becomes an instant event. Counters for each stage are a
process of their own; arrows (flow events) lead from an action to those that stood still because of it.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from asyncpipe.pictures.counters import counters
from asyncpipe.pictures.timeline import Box, Row, Timeline, Unit

__all__ = ["Arrows", "Event", "counter_events", "microseconds", "name_event", "row_events", "trace", "trace_file"]

_MICROSECONDS: dict[Unit, float] = {"cost unit": 1000.0, "s": 1e6, "ms": 1000.0}
"""What one unit of time becomes; a trace counts microseconds."""
_WORDS: dict[Unit, str] = {
    "cost unit": "1 cost unit is shown as 1 ms",
    "s": "1 s is shown as 1 s",
    "ms": "1 ms is shown as 1 ms",
}

Event = dict[str, Any]


def trace(timeline: Timeline, title: str) -> Iterator[str]:
    """The file, piece by piece: one line for each event."""
    scale = _MICROSECONDS[timeline.unit]
    yield from trace_file(_events(timeline, scale), {"title": title, "time": _WORDS[timeline.unit]})


def trace_file(events: Iterable[Event], about: Mapping[str, str]) -> Iterator[str]:
    """Any events as a file, piece by piece."""
    yield f'{{"displayTimeUnit": "ms",\n"otherData": {json.dumps(about)},\n"traceEvents": [\n'
    before = ""
    for event in events:
        yield f"{before}{json.dumps(event)}"
        before = ",\n"
    yield "\n]}\n"


def _events(timeline: Timeline, scale: float) -> Iterator[Event]:
    devices = sorted({row.device for row in timeline.rows})
    for device in devices:
        yield name_event("process", device, 0, f"device {device}")
    threads = [(row, number) for number, row in enumerate(timeline.rows, 1)]
    for row, number in threads:
        yield name_event("thread", row.device, number, row.name)
        yield {"ph": "M", "name": "thread_sort_index", "pid": row.device, "tid": number, "args": {"sort_index": number}}
    arrows = Arrows(timeline)
    for row, number in threads:
        yield from row_events(row, row.device, number, scale, arrows)
    counting = devices[-1] + 1 if devices else 0
    yield name_event("process", counting, 0, "stages")
    for counter in counters(timeline):
        yield from counter_events(counting, f"stage {counter.stage} {counter.name}", counter.name, counter.steps, scale)


def counter_events(
    process: int, track: str, name: str, steps: Iterable[tuple[float, float]], scale: float
) -> Iterator[Event]:
    """A line of (time, value from then on)."""
    for time, value in steps:
        place = {"ph": "C", "pid": process, "tid": 0, "name": track}
        yield {**place, "ts": microseconds(time * scale), "args": {name: value}}


def name_event(kind: str, process: int, thread: int, name: str) -> Event:
    return {"ph": "M", "name": f"{kind}_name", "pid": process, "tid": thread, "args": {"name": name}}


class Arrows:
    """Numbers for the waits that cost time, behind `last`: who waited, and whom others waited for."""

    def __init__(self, timeline: Timeline, last: int = 0) -> None:
        boxes = [box for row in timeline.rows for box in row.boxes]
        present = {str(box.action) for box in boxes}
        self.into: dict[str, list[int]] = {}
        self.from_: dict[str, list[int]] = {}
        number = last
        for box in boxes:
            for name, time in box.waited:
                if time > 0 and name in present:
                    number += 1
                    self.into.setdefault(str(box.action), []).append(number)
                    self.from_.setdefault(name, []).append(number)
        self.last = number


def row_events(row: Row, process: int, thread: int, scale: float, arrows: Arrows) -> Iterator[Event]:
    """Its boxes, and the ends of arrows at them."""
    for box in row.boxes:
        name = str(box.action)
        place = {"pid": process, "tid": thread, "ts": microseconds(box.start * scale)}
        event = {"name": name, "cat": box.action.op.value, **place, "args": _arguments(box)}
        if box.end > box.start:
            yield {"ph": "X", **event, "dur": microseconds(microseconds(box.end * scale) - place["ts"])}
        else:
            yield {"ph": "i", "s": "t", **event}
        # An arrow binds to the event around its time: both ends lie at the start, next to their event in the file.
        for number in arrows.into.get(name, ()):
            yield {"ph": "f", "bp": "e", "id": number, "name": "waited for", "cat": "wait", **place}
        for number in arrows.from_.get(name, ()):
            yield {"ph": "s", "id": number, "name": "waited for", "cat": "wait", **place}


def _arguments(box: Box) -> dict[str, Any]:
    facts = {"op": box.action.op.words, "reads": box.reads, "writes": box.writes, "staleness": box.staleness}
    known: dict[str, Any] = {key: value for key, value in facts.items() if value is not None}
    waits = {name: time for name, time in box.waited if time > 0}
    return {**known, "waited": waits} if waits else known


def microseconds(value: float) -> float | int:
    """To the nanosecond, which is what readers keep; whole ones without a point."""
    rounded = round(value, 3)
    return int(rounded) if rounded == int(rounded) else rounded

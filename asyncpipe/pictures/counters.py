"""Numbers that change over time, one line for each stage: staleness of the updates, microbatches in flight."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from asyncpipe.ir import Op
from asyncpipe.pictures.timeline import Timeline

__all__ = ["IN_FLIGHT", "STALENESS", "Counter", "counters"]

STALENESS = "staleness"
IN_FLIGHT = "in flight"
_HOLDING = (Op.F, Op.R, Op.B, Op.I, Op.W)


@dataclass(frozen=True)
class Counter:
    """`steps` are (time, value from then on) in the order of time."""

    name: str
    stage: int
    steps: tuple[tuple[float, int], ...]

    @property
    def most(self) -> int:
        return max((value for _, value in self.steps), default=0)


def counters(timeline: Timeline) -> tuple[Counter, ...]:
    """Stage by stage: the staleness of each update from its end on, and how many microbatches are in flight.

    A microbatch is in flight from the start of its forward to the end of the last action of its backward.
    """
    staleness, in_flight = _staleness(timeline), _in_flight(timeline)
    stages = sorted({*staleness, *in_flight})
    return tuple(counter for stage in stages for counter in _of_stage(stage, staleness, in_flight))


def _of_stage(
    stage: int, staleness: dict[int, list[tuple[float, int]]], in_flight: dict[int, list[tuple[float, int]]]
) -> Iterator[Counter]:
    if stage in staleness:
        yield Counter(STALENESS, stage, tuple(staleness[stage]))
    if stage in in_flight:
        yield Counter(IN_FLIGHT, stage, tuple(in_flight[stage]))


def _staleness(timeline: Timeline) -> dict[int, list[tuple[float, int]]]:
    found: dict[int, list[tuple[int, float, int]]] = {}
    for row in timeline.rows:
        for box in row.boxes:
            if box.staleness is not None and box.writes is not None:
                found.setdefault(box.action.stage, []).append((box.writes, box.end, box.staleness))
    return {stage: [(time, value) for _, time, value in sorted(updates)] for stage, updates in found.items()}


def _in_flight(timeline: Timeline) -> dict[int, list[tuple[float, int]]]:
    held: dict[tuple[int, int], tuple[float, float]] = {}
    for row in timeline.rows:
        for box in row.boxes:
            if box.action.op in _HOLDING:
                key = (box.action.stage, box.action.index)
                start, end = held.get(key, (box.start, box.end))
                held[key] = (min(start, box.start), max(end, box.end))
    changes: dict[int, list[tuple[float, int]]] = {}
    for (stage, _), (start, end) in held.items():
        changes.setdefault(stage, []).extend([(start, 1), (end, -1)])
    return {stage: _summed(sorted(each)) for stage, each in changes.items()}


def _summed(changes: list[tuple[float, int]]) -> list[tuple[float, int]]:
    """The running sum: one step for each instant after which it is another."""
    totals: dict[float, int] = {}
    value = 0
    for time, change in changes:
        value += change
        totals[time] = value
    steps = list(totals.items())
    before = [0, *totals.values()]
    return [step for step, last in zip(steps, before, strict=False) if step[1] != last]

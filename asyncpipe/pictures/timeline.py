"""The boxes of a picture: what each stream does from when to when, what it read, and what it waited for."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Literal, NamedTuple

from asyncpipe.ir import Action, Kind, Program, replay
from asyncpipe.pictures.versions import Versions

__all__ = ["Box", "Row", "Timeline", "Unit", "planned", "timeline_of"]

Unit = Literal["cost unit", "s", "ms"]


@dataclass(frozen=True, slots=True)
class Box:
    """One action, in the picture's unit of time; an action that takes no time has start == end."""

    action: Action
    start: float
    end: float
    reads: int | None = None
    """The weight version that a forward, a backward or a recompute reads at its start."""
    writes: int | None = None
    """The version that an update produces."""
    staleness: int | None = None
    """Of an update: the version it is applied to, minus the oldest that a forward of its microbatches read."""
    waited: tuple[tuple[str, float], ...] = ()
    """The action's event waits in the order in which they ended, and how long the stream was idle because of each."""

    @property
    def idle(self) -> float:
        """How long the stream stood still because of this action's waits."""
        return sum(time for _, time in self.waited)


@dataclass(frozen=True)
class Row:
    name: str
    device: int
    boxes: tuple[Box, ...]

    @property
    def busy(self) -> float:
        return sum(box.end - box.start for box in self.boxes)

    @property
    def idle(self) -> float:
        """For how long the stream stood still because of event waits."""
        return sum(box.idle for box in self.boxes)


@dataclass(frozen=True)
class Timeline:
    """Rows of boxes, each in the order in which its stream ran them; `end` is when the last one ended."""

    rows: tuple[Row, ...]
    end: float
    unit: Unit = "cost unit"
    """What one unit of time is."""

    @property
    def size(self) -> int:
        return sum(len(row.boxes) for row in self.rows)


class Moment(NamedTuple):
    """An action starts (`ends` false) or ends."""

    time: float
    action: Action
    ends: bool


def planned(program: Program) -> Timeline:
    """The finite program under its costs, replayed."""
    unit = float(program.unit)
    return _timeline(program, (Moment(e.time * unit, e.action, e.ends) for e in replay(program)), "cost unit")


def timeline_of(program: Program, times: Mapping[Action, tuple[float, float]], unit: Unit = "cost unit") -> Timeline:
    """The finite program as it ran: (start, end) of each action that did; ValueError for any other action.

    Reads take effect at starts, writes at ends. At one instant ends come first, then what takes no time in the
    program's issue order, then starts.
    """
    return _timeline(program, _moments(program, times), unit)


def _moments(program: Program, times: Mapping[Action, tuple[float, float]]) -> list[Moment]:
    """Starts and ends in the order in which they take effect."""
    place = {launch.action: i for i, launch in enumerate(_launches(program))}
    unknown = next((action for action in times if action not in place), None)
    if unknown is not None:
        raise ValueError(f"the program launches no {unknown}")
    keyed: list[tuple[tuple[float, int, int, int, int], Moment]] = []
    for action, (start, end) in times.items():
        if end < start:
            raise ValueError(f"{action} ends at {end:g}, before its start at {start:g}")
        if end == start:
            first, last = (start, 1, place[action], 0, 0), (start, 1, place[action], 0, 1)
        else:
            first = (start, 2, place[action], 0, 0)
            last = (end, 0, 0 if action.op.by_update else 1, action.index, place[action])
        keyed += [(first, Moment(start, action, False)), (last, Moment(end, action, True))]
    keyed.sort(key=lambda item: item[0])
    return [moment for _, moment in keyed]


class _Launch(NamedTuple):
    stream: int
    action: Action
    waits: tuple[Action, ...]


def _launches(program: Program) -> Iterator[_Launch]:
    """The launches of a finite program in host issue order."""
    if program.microbatches is None:
        raise ValueError("an endless program has no picture: give it a number of microbatches")
    waits: list[list[Action]] = [[] for _ in program.streams]
    for kind, stream, action in program.instructions():
        if kind is Kind.WAIT:
            waits[stream].append(action)
        elif kind is Kind.LAUNCH:
            yield _Launch(stream, action, tuple(waits[stream]))
            waits[stream] = []


def _timeline(program: Program, moments: Iterable[Moment], unit: Unit) -> Timeline:
    launches = {launch.action: launch for launch in _launches(program)}
    boxes: list[list[Box]] = [[] for _ in program.streams]
    versions = Versions(program, launches)
    running: dict[Action, tuple[float, int | None]] = {}
    ended: dict[Action, tuple[int, float]] = {}
    end = 0.0
    for time, action, ends in moments:
        if not ends:
            running[action] = (time, versions.read(action))
            continue
        start, reads = running.pop(action)
        stream, _, waits = launches[action]
        free = boxes[stream][-1].end if boxes[stream] else 0.0
        waited = _waited(waits, ended, free, start)
        boxes[stream].append(Box(action, start, time, reads, *versions.write(action), waited))
        ended[action] = (len(ended), time)
        end = max(end, time)
    rows = tuple(Row(s.name, s.device, tuple(b)) for s, b in zip(program.streams, boxes, strict=True))
    return Timeline(rows, end, unit)


def _waited(
    waits: tuple[Action, ...], ended: Mapping[Action, tuple[int, float]], free: float, start: float
) -> tuple[tuple[str, float], ...]:
    """Each wait with the idle time that it added to those before it; the stream was free from `free` to `start`."""
    found = []
    for action in sorted(waits, key=lambda action: ended.get(action, (-1, 0.0))):
        until = min(ended.get(action, (-1, free))[1], start)
        found.append((str(action), max(0.0, until - free)))
        free = max(free, until)
    return tuple(found)

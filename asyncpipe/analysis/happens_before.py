"""Which actions of a program are ordered, by its own events and streams alone: the meaning of its waits."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterator
from typing import NamedTuple

from asyncpipe.ir import Action, Kind, Op, Program

__all__ = ["HappensBefore"]


class _Place(NamedTuple):
    """Where an action was launched: on which stream, where in it, knowing how much of each other stream.

    Launches between two waits share their clock; what a stream knows of itself is the position.
    """

    stream: int
    position: int
    clock: list[int]

    def knows(self, stream: int) -> int:
        """So many launches of that stream have ended, on every machine, before this one starts."""
        return self.position if stream == self.stream else self.clock[stream]


class HappensBefore:
    """Vector clocks over a finite program. `before(a, b)`: a has ended, on every machine, before b starts."""

    def __init__(self, program: Program) -> None:
        count = len(program.streams)
        known = [[0] * count for _ in range(count)]
        launched = [0] * count
        self._places: dict[Action, _Place] = {}
        recorded: dict[Action, _Place] = {}
        self._rows: dict[tuple[Op, int], dict[int, list[Action]]] = {}
        for kind, stream, action in program.instructions():
            if kind is Kind.LAUNCH:
                self._places[action] = _Place(stream, launched[stream], known[stream])
                launched[stream] += 1
                self._rows.setdefault((action.op, action.stage), {}).setdefault(stream, []).append(action)
            elif kind is Kind.RECORD:
                recorded[action] = _Place(stream, launched[stream], known[stream])
            elif action in recorded:
                event = recorded[action]
                known[stream] = list(map(max, known[stream], event.clock))
                known[stream][event.stream] = max(known[stream][event.stream], event.position)

    @property
    def actions(self) -> set[Action]:
        return set(self._places)

    def launches(self, op: Op, stage: int) -> Iterator[Action]:
        """All actions of an op and a stage."""
        for row in self._rows.get((op, stage), {}).values():
            yield from row

    def before(self, first: Action, second: Action) -> bool:
        """Whether `first` surely ends before `second` starts; a wait whose record was not issued yet counts nothing."""
        a, b = self._places[first], self._places[second]
        return b.knows(a.stream) > a.position

    def ordered(self, first: Action, second: Action) -> bool:
        return self.before(first, second) or self.before(second, first)

    def between(self, op: Op, stage: int, first: Action, last: Action) -> Iterator[Action]:
        """The actions of an op and a stage that are ordered neither before `first` nor after `last`.

        Along a stream what is known only grows, so that they are found by bisection.
        """
        begin, end = self._places[first], self._places[last]
        for stream, row in self._rows.get((op, stage), {}).items():
            low = bisect_left(row, begin.knows(stream), key=lambda action: self._places[action].position)
            high = bisect_right(row, end.position, key=lambda action: self._places[action].knows(end.stream))
            yield from row[low:high]

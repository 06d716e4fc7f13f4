"""Which actions of a program are ordered, by its own events and streams alone: the meaning of its waits."""

from __future__ import annotations

from dataclasses import dataclass

from asyncpipe.ir import Action, Kind, Program

__all__ = ["HappensBefore"]


@dataclass(frozen=True)
class _Place:
    stream: int
    position: int
    clock: tuple[int, ...]


class HappensBefore:
    """Vector clocks over a finite program. `before(a, b)`: a has ended, on every machine, before b starts."""

    def __init__(self, program: Program) -> None:
        count = len(program.streams)
        known = [[0] * count for _ in range(count)]
        launched = [0] * count
        self._places: dict[Action, _Place] = {}
        self._recorded: dict[Action, tuple[int, ...]] = {}
        for kind, stream, action in program.instructions():
            if kind is Kind.LAUNCH:
                known[stream][stream] = launched[stream]
                self._places[action] = _Place(stream, launched[stream], tuple(known[stream]))
                launched[stream] += 1
            elif kind is Kind.RECORD:
                clock = list(known[stream])
                clock[stream] = launched[stream]
                self._recorded[action] = tuple(clock)
            elif action in self._recorded:
                known[stream] = list(map(max, known[stream], self._recorded[action]))

    @property
    def actions(self) -> set[Action]:
        return set(self._places)

    def before(self, first: Action, second: Action) -> bool:
        """Whether `first` surely ends before `second` starts; a wait whose record was not issued yet counts nothing."""
        a, b = self._places[first], self._places[second]
        return b.clock[a.stream] > a.position

    def ordered(self, first: Action, second: Action) -> bool:
        return self.before(first, second) or self.before(second, first)

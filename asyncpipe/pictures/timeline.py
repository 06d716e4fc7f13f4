"""The boxes of a picture: what each stream does from when to when."""

from __future__ import annotations

from dataclasses import dataclass

from asyncpipe.ir import Action, Program, replay

__all__ = ["Box", "Row", "Timeline", "planned"]


@dataclass(frozen=True)
class Box:
    """One action, in the picture's unit of time; an action that takes no time has start == end."""

    action: Action
    start: float
    end: float


@dataclass(frozen=True)
class Row:
    name: str
    device: int
    boxes: tuple[Box, ...]

    @property
    def busy(self) -> float:
        return sum(box.end - box.start for box in self.boxes)


@dataclass(frozen=True)
class Timeline:
    rows: tuple[Row, ...]
    end: float


def planned(program: Program) -> Timeline:
    """The program under its costs, replayed."""
    boxes: list[list[Box]] = [[] for _ in program.streams]
    starts: dict[Action, float] = {}
    unit = float(program.unit)
    end = 0.0
    for event in replay(program):
        if not event.ends:
            starts[event.action] = event.time * unit
        else:
            boxes[event.stream].append(Box(event.action, starts.pop(event.action), event.time * unit))
            end = event.time * unit
    rows = tuple(Row(s.name, s.device, tuple(b)) for s, b in zip(program.streams, boxes, strict=True))
    return Timeline(rows, end)

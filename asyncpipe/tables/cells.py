"""A table: for each device the actions of one update window, in the order in which the device runs them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from asyncpipe.errors import Position
from asyncpipe.ir import Action, Op

__all__ = ["Place", "Rows", "split_backwards"]


class Place(NamedTuple):
    """Where a cell stands in its file: 1-based line and column, and its length."""

    line: int
    column: int
    length: int


@dataclass(frozen=True)
class Rows:
    """`actions[device]` in order. `places` has the same shape, or is empty where no file holds the table."""

    actions: tuple[tuple[Action, ...], ...]
    places: tuple[tuple[Place, ...], ...] = ()
    file: str = ""
    whole: bool = True
    """Whether every cell could be read; where not, nothing follows from what is missing."""

    @property
    def cells(self) -> int:
        return sum(map(len, self.actions))

    def where(self, device: int, step: int) -> Position | None:
        """The place of a cell in the file."""
        return Position(self.file, *self.places[device][step]) if self.places else None

    def where_row(self, device: int) -> Position | None:
        """The place of a row: its first cell; of an empty row the line after the row before it."""
        if not self.places or self.places[device]:
            return self.where(device, 0)
        before = self.where_row(device - 1) if device else None
        return Position(self.file, before.line + 1 if before else 1, 1)


def split_backwards(rows: Rows) -> Rows:
    """The same table with each B as its halves I and W, where any stage has halves; one kind for the whole table."""
    if not any(action.op is Op.I or action.op is Op.W for row in rows.actions for action in row):
        return rows
    if not any(action.op is Op.B for row in rows.actions for action in row):
        return rows
    counts = [[2 if action.op is Op.B else 1 for action in row] for row in rows.actions]
    places = tuple(
        tuple(place for place, count in zip(row, repeats, strict=True) for _ in range(count))
        for row, repeats in zip(rows.places, counts, strict=False)
    )
    actions = tuple(tuple(half for action in row for half in _halves(action)) for row in rows.actions)
    return Rows(actions, places, rows.file, rows.whole)


def _halves(action: Action) -> tuple[Action, ...]:
    if action.op is not Op.B:
        return (action,)
    return Action(action.stage, Op.I, action.index), Action(action.stage, Op.W, action.index)

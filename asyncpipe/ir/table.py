"""L1: per stream the ordered actions with the versions they read: warmup, a steady body that repeats, cooldown.

    table async-lu
    stages 3 every 1 start 2 step 2 iterations 3 microbatches 10
    slots 3 3 3
    stream forward device 0
      warmup 0F0@0 1F0@0 2F0@0 0F1@0
      body 0F[m]@[g-2] 1F[m]@[g-1]
      cooldown

`@` is the version that is read in the planned timing: how many updates of the stage were applied by then. In the body
indices are relative: `[m-1]` to microbatch m = start + iteration * step, `[g-1]` to the update of that microbatch.
Microbatch m of stage s owns slot m % slots[s].
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

from asyncpipe.ir.action import Action, relative_text

__all__ = ["Cell", "Table", "TableStream"]


class Cell(NamedTuple):
    """An action and the version that it reads in the planned timing (None: it reads no parameters)."""

    action: Action
    reads: int | None = None

    def text(self, relative: bool) -> str:
        if not relative:
            return str(self.action) + ("" if self.reads is None else f"@{self.reads}")
        reads = "" if self.reads is None else f"@[g{f'{self.reads:+d}' if self.reads else ''}]"
        return relative_text(self.action) + reads


@dataclass(frozen=True)
class TableStream:
    name: str
    device: int
    warmup: tuple[Cell, ...]
    body: tuple[Cell, ...] = ()
    cooldown: tuple[Cell, ...] = ()


@dataclass(frozen=True)
class Table:
    """The whole schedule, level L1. `microbatches` None: it never ends, and has no cooldown."""

    schedule: str
    stages: int
    every: int
    start: int
    step: int
    iterations: int | None
    microbatches: int | None
    slots: tuple[int, ...]
    streams: tuple[TableStream, ...]

    def actions(self, stream: int) -> Iterator[Action]:
        """The actions of one stream in order, with absolute indices; endless where the table is."""
        row = self.streams[stream]
        yield from (cell.action for cell in row.warmup)
        iteration = 0
        while row.body and (self.iterations is None or iteration < self.iterations):
            yield from (self.absolute(cell.action, iteration) for cell in row.body)
            iteration += 1
        yield from (cell.action for cell in row.cooldown)

    def absolute(self, action: Action, iteration: int) -> Action:
        """A body action with its index in the given iteration."""
        return action.later(self.start + iteration * self.step, self.every)

    def __str__(self) -> str:
        from asyncpipe.ir.printer import table_text

        return table_text(self)

"""AP201 for tables: rows whose orders wait for each other, with the shortest cycle and its cells."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Mapping
from typing import NamedTuple

from asyncpipe.errors import Position, Report
from asyncpipe.ir import Action
from asyncpipe.tables.cells import Rows
from asyncpipe.tables.index import Cell

__all__ = ["blocked_rows", "explain_deadlock"]

_MOST_VISITS = 300_000
"""Of blocked cells, in the search for the shortest cycle; those nearest to where the devices stand come first."""
Sources = Callable[[Action], tuple[Action, ...]]


class Hop(NamedTuple):
    """A cell waits for the result of `source`, which a device that stands at an earlier cell cannot reach."""

    waiting: Cell
    source: Cell


def explain_deadlock(rows: Rows, cells: Mapping[Action, Cell], sources: Sources, report: Report) -> None:
    """Adds AP201 where the rows cannot all be run to their ends. Wrong orders inside a row are not its matter."""
    heads = blocked_rows(rows, cells, sources)
    cycle = _Search(rows, cells, sources, heads).shortest() if heads else None
    if cycle:
        _tell(rows, cycle, report)


def _sources(
    action: Action, cell: Cell, cells: Mapping[Action, Cell], sources: Sources, inside: bool = False
) -> Iterator[Cell]:
    """The cells in other rows, or with `inside` in all, that a cell waits for."""
    for source in sources(action):
        found = cells.get(source)
        if found is not None and (inside or found[0] != cell[0]):
            yield found


def blocked_rows(rows: Rows, cells: Mapping[Action, Cell], sources: Sources, inside: bool = False) -> dict[int, int]:
    """Runs the rows; device -> the step at which it stands for ever, for those that do not come to their end.

    Wrong orders inside a row count with `inside` only.
    """
    at = [0] * len(rows.actions)
    waiters: dict[Cell, list[int]] = {}
    ready = deque(range(len(rows.actions)))
    while ready:
        device = ready.popleft()
        row = rows.actions[device]
        while at[device] < len(row):
            cell = (device, at[device])
            missing = next(
                (s for s in _sources(row[cell[1]], cell, cells, sources, inside) if at[s[0]] <= s[1]),
                None,
            )
            if missing is not None:
                waiters.setdefault(missing, []).append(device)
                break
            at[device] += 1
            ready.extend(waiters.pop(cell, ()))
    return {device: step for device, step in enumerate(at) if step < len(rows.actions[device])}


class _Search:
    """Cycles among the cells that never run: a hop leads from a cell to a source in another row, or to before it."""

    def __init__(self, rows: Rows, cells: Mapping[Action, Cell], sources: Sources, heads: dict[int, int]) -> None:
        self.rows = rows
        self.cells = cells
        self.sources = sources
        self.heads = heads
        self.visits = 0

    def shortest(self) -> list[Hop] | None:
        best: list[Hop] | None = None
        for start in self._starts():
            found = self._through(start, len(best) if best else len(self.heads) + 1)
            best = found or best
            if self.visits > _MOST_VISITS or (best and len(best) == 2):
                break
        return best

    def _starts(self) -> Iterator[Cell]:
        """The cells at which devices stand, then the ones after them, and so on."""
        longest = max(len(self.rows.actions[device]) - step for device, step in self.heads.items())
        for offset in range(longest):
            for device, step in self.heads.items():
                if step + offset < len(self.rows.actions[device]):
                    yield device, step + offset

    def _blocked_sources(self, cell: Cell) -> Iterator[Cell]:
        action = self.rows.actions[cell[0]][cell[1]]
        for source in _sources(action, cell, self.cells, self.sources):
            if source[0] in self.heads and source[1] >= self.heads[source[0]]:
                yield source

    def _through(self, start: Cell, limit: int) -> list[Hop] | None:
        """The shortest cycle through `start` of fewer than `limit` hops."""
        came: dict[Cell, Hop] = {}
        reached = dict(self.heads)
        queue: deque[tuple[Cell, int]] = deque([(start, 1)])
        while queue:
            cell, hops = queue.popleft()
            self.visits += 1
            for source in self._blocked_sources(cell):
                if source[0] == start[0] and source[1] >= start[1]:
                    return _path(came, start, Hop(cell, source)) if hops < limit else None
                if hops + 1 < limit:
                    for step in range(reached[source[0]], source[1] + 1):
                        came[source[0], step] = Hop(cell, source)
                        queue.append(((source[0], step), hops + 1))
                    reached[source[0]] = max(reached[source[0]], source[1] + 1)
        return None


def _path(came: dict[Cell, Hop], start: Cell, closing: Hop) -> list[Hop]:
    hops = [closing]
    while hops[-1].waiting != start:
        hops.append(came[hops[-1].waiting])
    return hops[::-1]


def _tell(rows: Rows, cycle: list[Hop], report: Report) -> None:
    def name(cell: Cell) -> str:
        return str(rows.actions[cell[0]][cell[1]])

    path: list[str] = []
    notes: list[tuple[str, Position | None]] = []
    for hop, following in zip(cycle, (*cycle[1:], cycle[0]), strict=True):
        path += [name(hop.waiting), name(hop.source)]
        notes.append((f"{name(hop.waiting)} needs the result of {name(hop.source)}", rows.where(*hop.waiting)))
        if following.waiting == hop.source:
            path.pop()
        else:
            text = f"device {hop.source[0]} runs {name(following.waiting)} before {name(hop.source)}"
            notes.append((text, rows.where(*hop.source)))
    message = f"deadlock: {' -> '.join((*path, path[0]))}"
    hint = "change the order of one of these devices"
    report.error("AP201", message, rows.where(*cycle[0].waiting), hint, notes=tuple(notes))

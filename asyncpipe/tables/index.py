"""Where each action of a table stands, and what it needs: one pass over the cells that all checks share."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

from asyncpipe.ir import Action, Op
from asyncpipe.tables.cells import Rows

__all__ = [
    "MOST_MICROBATCHES",
    "MOST_STAGES",
    "Cell",
    "Index",
    "StageCells",
    "count_stages_and_microbatches",
    "data_sources",
]

MOST_STAGES = MOST_MICROBATCHES = 4096
Cell = tuple[int, int]
"""(device, step)"""


def count_stages_and_microbatches(rows: Rows) -> tuple[int, int]:
    """As the cells say: the highest stage, and the number of distinct forwards that most stages have."""
    forwards: dict[int, set[int]] = defaultdict(set)
    for row in rows.actions:
        for stage, op, index in row:
            seen = forwards[stage]
            if op is Op.F:
                seen.add(index)
    counts = Counter(map(len, forwards.values()))
    stages = max((stage for stage in forwards if stage < MOST_STAGES), default=0) + 1
    return stages, max(counts, key=lambda count: (counts[count], count), default=0)


def data_sources(cells: Mapping[Action, Cell]) -> Callable[[Action], tuple[Action, ...]]:
    """action -> those whose results it needs; some may not exist. An update's are left to its row."""

    def sources(action: Action) -> tuple[Action, ...]:
        stage, op, index = action
        if op is Op.F:
            return (Action(stage - 1, Op.F, index),)
        if op is Op.W:
            return (Action(stage, Op.I, index),)
        if op is Op.R:
            return (Action(stage, Op.F, index),)
        if op is Op.U:
            return ()
        above = Action(stage + 1, Op.B, index)
        return Action(stage, Op.F, index), above if above in cells else Action(stage + 1, Op.I, index)

    return sources


@dataclass
class StageCells:
    """Where the actions of one stage stand: per op, by microbatch. `first` is the first of them."""

    device: int
    first: Cell
    cells: dict[Op, dict[int, Cell]] = field(default_factory=lambda: defaultdict(dict))


class Index:
    """The first cell of each action; the cells that repeat one; the stages that are on more than one device."""

    def __init__(self, rows: Rows) -> None:
        self.rows = rows
        self.cells: dict[Action, Cell] = {}
        self.by_stage: dict[int, StageCells] = {}
        self.repeated: list[Cell] = []
        self.scattered: dict[int, None] = {}
        for device, row in enumerate(rows.actions):
            self._enter(device, row)
        self.sources = data_sources(self.cells)

    def _enter(self, device: int, row: Iterable[Action]) -> None:
        for step, action in enumerate(row):
            cell = (device, step)
            if self.cells.setdefault(action, cell) is not cell:
                self.repeated.append(cell)
                continue
            stage = self.by_stage.get(action.stage)
            if stage is None:
                stage = self.by_stage[action.stage] = StageCells(device, cell)
            elif stage.device != device:
                self.scattered[action.stage] = None
            stage.cells[action.op][action.index] = cell

    def action(self, cell: Cell) -> Action:
        return self.rows.actions[cell[0]][cell[1]]

    def below(self, stages: int) -> list[tuple[int, StageCells]]:
        """The stages that exist, in order, with their cells."""
        return sorted((number, stage) for number, stage in self.by_stage.items() if number < stages)

"""AP13x: whether a table is one update window of a pipeline: every action once, on one device, in a possible order.

All findings at once, each with its cell. Linear in the number of cells.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from typing import NamedTuple

from asyncpipe.errors import Report
from asyncpipe.ir import Action, Op
from asyncpipe.tables.cells import Rows
from asyncpipe.tables.deadlock import explain_deadlock
from asyncpipe.tables.index import (
    MOST_MICROBATCHES,
    MOST_STAGES,
    Cell,
    Index,
    StageCells,
    count_stages_and_microbatches,
)
from asyncpipe.tables.wording import and_more, counted, listed

__all__ = ["Shape", "verify_rows"]


class Shape(NamedTuple):
    """What a valid table says: `place[stage]` is a device; `split` if backwards are I and W; `updates` if it has U."""

    devices: int
    stages: int
    microbatches: int
    place: tuple[int, ...]
    split: bool
    updates: bool


def verify_rows(
    rows: Rows,
    report: Report,
    *,
    devices: int | None = None,
    stages: int | None = None,
    microbatches: int | None = None,
) -> Shape | None:
    """The table's shape, or None with the findings in the report. A number that is given must be the table's own."""
    findings = Report()
    index = Index(rows)
    found = count_stages_and_microbatches(rows)
    count, window = stages or found[0], microbatches or found[1]
    _check_devices(rows, devices, findings)
    _check_repetitions(index, findings)
    _check_places(index, findings)
    _check_stages(index, count, stages is not None, findings)
    _check_microbatches(index, count, window, findings)
    _check_backwards(index, count, window, findings)
    _check_updates(index, count, findings)
    _check_order(index, findings)
    explain_deadlock(rows, index.cells, index.sources, findings)
    for diagnostic in findings.diagnostics:
        report.add(diagnostic)
    return None if findings.has_errors or not rows.whole else _shape(index, count, window)


def _shape(index: Index, stages: int, microbatches: int) -> Shape:
    place = tuple(index.by_stage[stage].device for stage in range(stages))
    ops = {op for stage in index.by_stage.values() for op, cells in stage.cells.items() if cells}
    return Shape(len(index.rows.actions), stages, microbatches, place, Op.I in ops, Op.U in ops)


def _check_devices(rows: Rows, devices: int | None, report: Report) -> None:
    """AP132: one row for each device. AP138: each with actions."""
    found = len(rows.actions)
    if devices is not None and found != devices:
        message = f"expected {counted(devices, 'row')}, one for each device, found {found}"
        report.error("AP132", message, rows.where_row(0), "set `devices`, or add and remove rows")
    for device in (device for device, row in enumerate(rows.actions) if not row and rows.whole):
        hint = "remove its row, or write its actions"
        report.error("AP138", f"device {device} has no actions", rows.where_row(device), hint)


def _check_repetitions(index: Index, report: Report) -> None:
    """AP131, once for each stage."""
    by_stage: dict[int, list[Cell]] = defaultdict(list)
    for cell in index.repeated:
        by_stage[index.action(cell).stage].append(cell)
    for cells in by_stage.values():
        action = index.action(cells[0])
        message = f"{action} is here a second time{and_more(len(cells) - 1, 'repeated action')}"
        notes = (("the first", index.rows.where(*index.cells[action])),)
        hint = "each action happens once: remove one"
        report.error("AP131", message, index.rows.where(*cells[0]), hint, notes=notes)


def _check_places(index: Index, report: Report) -> None:
    """AP135, once for each stage and device that has fewer of its actions than another one."""
    for number in index.scattered:
        by_device: dict[int, list[Cell]] = defaultdict(list)
        for cells in index.by_stage[number].cells.values():
            for cell in cells.values():
                by_device[cell[0]].append(cell)
        home = max(by_device, key=lambda device: (len(by_device[device]), -device))
        notes = ((f"{counted(len(by_device[home]), 'action')} there", index.rows.where(*min(by_device.pop(home)))),)
        for device, found in by_device.items():
            message = f"stage {number} is on device {home} and on device {device}"
            hint = f"a stage's parameters lie on one device: move its actions to row {home}"
            report.error("AP135", message, index.rows.where(*min(found)), hint, notes=notes)


def _check_stages(index: Index, stages: int, given: bool, report: Report) -> None:
    """AP132: stages that the schedule does not have, or that no row has."""
    for number in sorted(stage for stage in index.by_stage if stage >= stages):
        limit = (
            f"{counted(stages, 'stage')}, 0 to {stages - 1}" if given else f"there are at most {MOST_STAGES:,} stages"
        )
        where = index.rows.where(*index.by_stage[number].first)
        report.error("AP132", f"stage {number} is out of range: {limit}", where, "stages count from 0")
    missing = [stage for stage in range(stages) if stage not in index.by_stage]
    if missing and index.rows.whole:
        message = f"no row has {listed('stage', missing)} of {stages}"
        report.error("AP132", message, index.rows.where_row(0), "every stage has its actions in one row")


def _check_microbatches(index: Index, stages: int, n: int, report: Report) -> None:
    """AP133: each stage runs the microbatches 0 to n - 1, and n is not beyond what an update can have."""
    if n > MOST_MICROBATCHES:
        message = f"{n:,} microbatches in one update: there are at most {MOST_MICROBATCHES:,}"
        report.error("AP133", message, index.rows.where_row(0), "is the table of several updates?")
    span = f"the {counted(n, 'microbatch', 'microbatches')} of an update are 0 to {n - 1}"
    for number, stage in index.below(stages):
        computed = (cells for op, cells in stage.cells.items() if op is not Op.U)
        outside = sorted((cell, m) for cells in computed for m, cell in cells.items() if m >= n)
        missing = [m for m in range(n) if m not in stage.cells[Op.F]] if index.rows.whole else []
        gap = f"no forward of {listed('microbatch', missing, 'microbatches')}" if missing else ""
        if outside:
            found = listed("microbatch", sorted({m for _, m in outside}), "microbatches")
            message = f"stage {number} has {found}{f', and {gap}' if gap else ''}: {span}"
            where = index.rows.where(*outside[0][0])
            report.error("AP133", message, where, "number the microbatches from 0, without gaps")
        elif missing:
            where = index.rows.where(*stage.first)
            report.error("AP133", f"stage {number} has {gap}: {span}", where, f"add {number}F{missing[0]}")


def _check_backwards(index: Index, stages: int, n: int, report: Report) -> None:
    """AP134: each microbatch has one backward, as B or as I and W."""
    for number, stage in index.below(stages):
        kinds: dict[str, list[int]] = defaultdict(list)
        for m in range(n):
            found = "".join(op for op in (Op.B, Op.I, Op.W) if m in stage.cells[op])
            if found not in ("B", "IW") and (found or m in stage.cells[Op.F]):
                kinds[found].append(m)
        for found, microbatches in kinds.items():
            if index.rows.whole or len(found) > 1:
                _refuse_backward(index, number, stage, found, microbatches, report)


def _refuse_backward(
    index: Index, number: int, stage: StageCells, found: str, microbatches: list[int], report: Report
) -> None:
    m = microbatches[0]
    whole, halves = f"{number}B{m}", f"{number}I{m} and {number}W{m}"
    what, hint = {
        "": ("no backward", f"add {whole}, or {halves}"),
        "I": ("an input gradient I without its weight gradient W", f"add {number}W{m}, or write {whole}"),
        "W": ("a weight gradient W without its input gradient I", f"add {number}I{m} before it, or write {whole}"),
    }.get(found, ("a whole backward B and a half of one", f"keep {whole}, or {halves}"))
    cell = min((stage.cells[Op(op)][m] for op in found), default=stage.cells[Op.F].get(m, stage.first))
    message = f"stage {number} has {what} for {listed('microbatch', microbatches, 'microbatches')}"
    report.error("AP134", message, index.rows.where(*cell), hint)


def _check_updates(index: Index, stages: int, report: Report) -> None:
    """AP137: no stage has its update in the table, or each has one."""
    known = index.below(stages)
    have = [(number, m, cell) for number, stage in known for m, cell in stage.cells[Op.U].items()]
    for number, m, cell in have:
        if m:
            message = f"{number}U{m}: a table is one update window, its updates have index 0"
            hint = f"write {number}U0; the table repeats by itself"
            report.error("AP137", message, index.rows.where(*cell), hint)
    missing = [number for number, stage in known if not stage.cells[Op.U]]
    if have and missing and index.rows.whole:
        verb = "has" if len(missing) == 1 else "have"
        message = f"{listed('stage', missing)} {verb} no update, but stage {have[0][0]} has one"
        hint = f"add {missing[0]}U0, or leave all updates out: each row then ends with those of its stages"
        report.error("AP137", message, index.rows.where(*have[0][2]), hint)


def _check_order(index: Index, report: Report) -> None:
    """AP136: within a row, what gives stands before what takes; once for each stage and kind."""
    found: dict[tuple[int, Op, Op], list[tuple[Action, Action]]] = defaultdict(list)
    for action, (device, step) in index.cells.items():
        for source in _sources(index, action):
            cell = index.cells.get(source)
            if cell is not None and cell[0] == device and cell[1] > step:
                found[action.stage, action.op, source.op].append((action, source))
    for pairs in found.values():
        action, source = pairs[0]
        message = f"{action} stands before {source}, whose result it needs{and_more(len(pairs) - 1, 'such pair')}"
        notes = ((f"{source}", index.rows.where(*index.cells[source])),)
        where = index.rows.where(*index.cells[action])
        report.error("AP136", message, where, f"move {source} to its left", notes=notes)


def _sources(index: Index, action: Action) -> Iterable[Action]:
    if action.op is not Op.U:
        return index.sources(action)
    cells = index.by_stage[action.stage].cells
    return (Action(action.stage, op, m) for op in (Op.B, Op.W) for m in cells[op])

"""The fixed orders of streams: bodies of the file, and tables, as lines (op, stage, microbatch offset)."""

from __future__ import annotations

from collections import Counter

from asyncpipe.errors import Report
from asyncpipe.ir import Action, Op
from asyncpipe.passes.diagram import Stream
from asyncpipe.passes.names import evaluate, stages_text
from asyncpipe.schedule import Schedule, StreamGroup
from asyncpipe.schedule.expression import names
from asyncpipe.schedule.rule import BodyEntry
from asyncpipe.tables.cells import Rows, split_backwards
from asyncpipe.tables.generate import TableError, rows

__all__ = ["Line", "body_lines", "check_bodies", "table_rows", "window_lines"]

MAX_OFFSET = 4096
Line = tuple[Op, int, int]


def body_lines(group: StreamGroup, part: tuple[int, ...], env: dict[str, int], report: Report) -> tuple[Line, ...]:
    """The body of one stream, expanded over its stages: (op, stage, microbatch offset) in order."""
    lines: list[Line] = []
    for entry in group.body:
        for stage in _entry_stages(group, entry, part, env, report):
            scope = {**env, "s": stage}
            values = [evaluate(entry.index, {**scope, "m": m}, "body", entry.where, report) for m in (0, 1, 1000)]
            if None in values:
                continue
            zero, one, far = (value for value in values if value is not None)
            if one != zero + 1 or far != zero + 1000 or abs(zero) > MAX_OFFSET:
                message = f"expected m plus or minus at most {MAX_OFFSET} as the microbatch of {entry}"
                report.error("AP118", message, entry.where, "as in B[s, m-2*(last-s)]")
            lines.append((entry.op, stage, zero))
    return tuple(lines)


def _entry_stages(
    group: StreamGroup, entry: BodyEntry, part: tuple[int, ...], env: dict[str, int], report: Report
) -> tuple[int, ...]:
    if entry.stage is None:
        return part if entry.op is Op.F else tuple(reversed(part))
    bound = {name.name for name in [*names(entry.stage), *names(entry.index)]}
    if not part:
        return ()
    if "s" in bound and len(part) != 1:
        message = f"{entry}: s is not known, since one stream of group {group.name} serves {stages_text(part)}"
        hint = "use `per: stage`, or `*` for the stream's stages in data order"
        report.error("AP117", message, entry.where, hint)
        return ()
    stage = evaluate(entry.stage, {**env, "s": part[0]}, "body", entry.where, report)
    if stage is not None and stage not in part:
        message = f"{entry} is of stage {stage}, but this stream of group {group.name} serves {stages_text(part)}"
        report.error("AP114", message, entry.where, "its own stage is s, or `*` for all that it serves")
        return ()
    return () if stage is None else (stage,)


def check_bodies(group: StreamGroup, streams: list[Stream], report: Report) -> None:
    """AP117 unless each body runs each op of `runs` once for each of its stages, and nothing else."""
    wrong: dict[tuple[Op, str], set[int]] = {}
    for stream in streams:
        found = [(op, stage) for op, stage, _ in stream.body]
        for op in group.runs:
            for stage in stream.stages:
                if (count := found.count((op, stage))) != 1:
                    wrong.setdefault((op, "more than once" if count else "never"), set()).add(stage)
    for (op, times), stages in wrong.items():
        message = f"the body of group {group.name} runs {op} of {stages_text(stages)} {times}"
        report.error("AP117", message, group.where("body"), "a body runs each op of `runs` once for each stage")
    for op in dict.fromkeys(entry.op for entry in group.body if entry.op not in group.runs):
        message = f"the body of group {group.name} has {op}, which is not in its `runs`"
        report.error("AP117", message, group.where("body"), f"add {op} to `runs`, or remove it from the body")


def table_rows(
    schedule: Schedule, group: StreamGroup, stages: int, devices: int, report: Report
) -> tuple[tuple[Action, ...], ...]:
    """The rows of a group's table for this instance, one for each device; none after an error."""
    found = _rows_of(group, stages, devices, schedule.update.every, report)
    halves = {Op.I, Op.W} & {action.op for row in found for action in row}
    if found and bool(halves) is not bool({Op.I, Op.W} & set(group.runs)):
        has, runs = ("I and W", "B") if halves else ("B", "I and W")
        message = f"the backwards of the table are {has}, but group {group.name} runs {runs}"
        report.error("AP117", message, group.where("runs"), f"let `runs` name {has} instead of {runs}")
        return ()
    return found


def _rows_of(
    group: StreamGroup, stages: int, devices: int, every: int, report: Report
) -> tuple[tuple[Action, ...], ...]:
    where = group.where("table")
    if not isinstance(group.table, str):
        found = _sizes(group.table)
        for (what, value), expected in zip(found.items(), (devices, stages, every), strict=True):
            if value != expected:
                message = f"the table of group {group.name} is for {value} {what}, but this instance has {expected}"
                report.error("AP122", message, where, _MEND[what].format(value))
                return ()
        return _split(group, group.table)
    try:
        return _split(group, rows(group.table, devices, stages, every))
    except TableError as error:
        report.error("AP123", error.message, where, error.hint)
        return ()


def _split(group: StreamGroup, table: tuple[tuple[Action, ...], ...]) -> tuple[tuple[Action, ...], ...]:
    """Whole backwards as both halves, where the group runs halves only."""
    return split_backwards(Rows(table)).actions if Op.I in group.runs and Op.B not in group.runs else table


_MEND = {
    "devices": "set `devices: {}`, or give a row for each device",
    "stages": "set `stages: {}`: an explicit table is for one number of stages",
    "microbatches": "set `update: {{every: {}}}`: a table orders one update",
}


def _sizes(table: tuple[tuple[Action, ...], ...]) -> dict[str, int]:
    cells = [action for row in table for action in row if not action.op.by_update]
    stages = 1 + max((action.stage for action in cells), default=-1)
    microbatches = 1 + max((action.index for action in cells), default=-1)
    return {"devices": len(table), "stages": stages, "microbatches": microbatches}


def window_lines(
    group: StreamGroup,
    row: tuple[Action, ...],
    part: tuple[int, ...],
    device: int,
    every: int,
    recomputed: range,
    report: Report,
) -> tuple[Line, ...]:
    """One row of a table as lines; updates that it does not name come last, as their gradients become ready."""
    lines = [(a.op, a.stage, a.index * every + every - 1 if a.op is Op.U else a.index) for a in row]
    for op, stage in dict.fromkeys((op, stage) for op, stage, _ in lines):
        if stage not in part:
            message = f"the table runs {op} of stage {stage} on device {device}, where `place` does not put it"
            hint = "let `place` put each stage where the table runs it; it may be a list"
            report.error("AP121", message, group.where("table"), hint)
            return ()
    if Op.U in group.runs and not any(op is Op.U for op, _, _ in lines):
        ready = [stage for op, stage, _ in reversed(lines) if op in (Op.B, Op.W)]
        lines += [(Op.U, stage, every - 1) for stage in reversed(dict.fromkeys(ready))]
    pairs = [(op, stage) for op in group.runs for stage in part if op is not Op.R or stage in recomputed]
    _check_window(group, lines, pairs, device, every, report)
    return tuple(lines)


def _check_window(
    group: StreamGroup, lines: list[Line], pairs: list[tuple[Op, int]], device: int, every: int, report: Report
) -> None:
    """AP117 unless the row runs each (op, stage) of `pairs` once for each microbatch or update, and nothing else."""
    own, all_of_them = (every - 1,), range(every)
    expected = {(*pair, m) for pair in pairs for m in (own if pair[0] is Op.U else all_of_them)}
    found = Counter(lines)
    wrong = {
        "never": min(expected - found.keys(), default=None),
        "more than once": min((line for line, count in found.items() if count > 1), default=None),
        "which is none of its own": min(found.keys() - expected, default=None),
    }
    for words, line in wrong.items():
        if line is not None:
            action = Action(line[1], line[0], line[2] // every if line[0] is Op.U else line[2])
            comma = ", " if words.startswith("which") else " "
            message = f"row {device} of the table of group {group.name} runs {action}{comma}{words}"
            hint = "a table runs each op of `runs` once for each microbatch, and each update once"
            report.error("AP117", message, group.where("table"), hint)
            return

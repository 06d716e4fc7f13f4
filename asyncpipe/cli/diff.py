"""`asyncpipe diff`: what differs between two schedules: keys, edges, streams, numbers, and the order of each stream."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import groupby
from typing import Any

import click

from asyncpipe.analysis.difference import EdgeChange, OrderChange, changed_edges, changed_order
from asyncpipe.cli.options import counted, json_option, parse_costs
from asyncpipe.compiler import Compiled, compile_instance, stage_count
from asyncpipe.errors import ScheduleError
from asyncpipe.schedule import Costs, Schedule, read_schedule
from asyncpipe.schedule.difference import KeyChange, changed_keys
from asyncpipe.schedule.source import Report

__all__ = ["command"]

_WIDEST = 60
"""Columns of a value in the text; the JSON has it whole."""
_MOST_LINES = 12
_TEXTS = ("description", "paper")
"""What people read; the text names these keys only."""

Number = Fraction | int


@dataclass(frozen=True)
class _Row:
    """One number, or one per stage, of both sides; `label` is its name in the text."""

    name: str
    before: Number | tuple[Number, ...]
    after: Number | tuple[Number, ...]
    label: str = ""
    show: Callable[[Any], str] = str


@dataclass(frozen=True)
class _Difference:
    before: Compiled
    after: Compiled
    keys: tuple[KeyChange, ...]
    streams: tuple[KeyChange, ...]
    edges: tuple[EdgeChange, ...]
    numbers: tuple[_Row, ...]
    order: tuple[OrderChange, ...]

    @property
    def is_empty(self) -> bool:
        unequal = any(row.before != row.after for row in self.numbers)
        return not (self.keys or self.streams or self.edges or self.order or unequal)


@click.command("diff")
@click.argument("before", metavar="A")
@click.argument("after", metavar="B")
@click.option("--stages", type=click.IntRange(1, 4096), help="How many stages both have; default: as A says, else B.")
@click.option("--costs", metavar="F=1,B=2,U=0", help="Time of each op, on both sides.")
@click.option("--exit-code", "exit_code", is_flag=True, help="End with 1 where anything differs.")
@json_option
def command(before: str, after: str, stages: int | None, costs: str | None, exit_code: bool, as_json: bool) -> int:
    """Say what differs between two schedules (files or library names), from A to B.

    Keys are compared with their defaults, never by formatting. Numbers, streams, edges and the first action that
    differs in each stream are those of the same number of stages, with each file's costs unless --costs is given.
    """
    difference = _difference(before, after, stages, Costs() if costs is None else parse_costs(costs))
    if as_json:
        click.echo(json.dumps(_document(difference)))
    else:
        click.echo("\n".join(_lines(difference)))
    return 1 if exit_code and not difference.is_empty else 0


def _difference(before: str, after: str, asked: int | None, costs: Costs) -> _Difference:
    """ScheduleError with the findings of both where one does not compile; `expect` is not asserted here."""
    reports = (Report(), Report())
    old, new = (read_schedule(name, report) for name, report in zip((before, after), reports, strict=True))
    if old is None or new is None:
        raise _invalid(reports)
    stages = _stages(old, new) if asked is None else asked
    first, second = (
        compile_instance(side, stages, side.costs.merged(costs), report)
        for side, report in zip((old, new), reports, strict=True)
    )
    if first is None or second is None:
        raise _invalid(reports)
    return _compared(first, second, changed_keys(old, new))


def _invalid(reports: Iterable[Report]) -> ScheduleError:
    """The findings of both sides; one file on both sides has them once."""
    return ScheduleError(list(dict.fromkeys(d for report in reports for d in report.diagnostics)))


def _stages(before: Schedule, after: Schedule) -> int:
    """What either file fixes, else what either expects; A's where both do."""
    fixed = [side for side in (before, after) if not isinstance(side.stages, str)]
    expecting = [side for side in (before, after) if side.expect is not None]
    return stage_count([*fixed, *expecting, before][0])


def _compared(before: Compiled, after: Compiled, keys: tuple[KeyChange, ...]) -> _Difference:
    return _Difference(
        before,
        after,
        keys,
        _changed_streams(before, after),
        changed_edges(before.diagram, after.diagram),
        _numbers(before, after),
        changed_order(before.table(), after.table()),
    )


def _changed_streams(before: Compiled, after: Compiled) -> tuple[KeyChange, ...]:
    """Streams that one side lacks, or that lie on another device."""
    old, new = ({s.name: f"device {s.device}" for s in side.diagram.streams} for side in (before, after))
    changes = (KeyChange(name, old.get(name), new.get(name)) for name in dict.fromkeys([*old, *new]))
    return tuple(change for change in changes if change.before != change.after)


def _numbers(before: Compiled, after: Compiled) -> tuple[_Row, ...]:
    def speedup_text(value: Fraction) -> str:
        return f"{float(value):.2f}x"

    return (
        _Row("period", before.period, after.period),
        _Row("speedup", before.speedup, after.speedup, show=speedup_text),
        _Row("staleness", before.staleness.apply, after.staleness.apply, show=_per_stage),
        _Row("in_flight", before.slots, after.slots, label="slots", show=_per_stage),
        _Row("weight_versions", before.weight_versions, after.weight_versions, label="versions", show=_per_stage),
    )


def _per_stage(values: Sequence[Number]) -> str:
    """`2 2 1 0`; of many stages `2 x 12, 1 x 4`."""
    if len(values) <= 16:
        return " ".join(map(str, values))
    runs = [(value, len(list(same))) for value, same in groupby(values)]
    return _short(", ".join(f"{value} x {length}" if length > 1 else str(value) for value, length in runs))


def _short(text: str) -> str:
    return text if len(text) <= _WIDEST else f"{text[: _WIDEST - 3]}..."


def _lines(difference: _Difference) -> Iterator[str]:
    before, after = difference.before, difference.after
    names = [side.schedule.name for side in (before, after)]
    if names[0] == names[1]:
        names = [side.schedule.file for side in (before, after)]
    yield f"{names[0]} -> {names[1]}, {counted(before.stages, 'stage')}"
    if difference.is_empty:
        yield "no difference"
        return
    yield from _section("keys", _key_lines(difference.keys))
    yield "numbers"
    yield from (f"  {_both(row)}" for row in difference.numbers)
    sections = {
        "streams": [_change(*change) for change in difference.streams],
        "edges": list(map(_edge, difference.edges)),
        "order": list(map(_order, difference.order)),
    }
    for title, lines in sections.items():
        yield from _section(title, lines)
    shared = {s.name for s in before.diagram.streams} & {s.name for s in after.diagram.streams}
    if same := [title for title, lines in sections.items() if not lines and (shared or title != "order")]:
        yield f"same {', '.join(same)}"


def _key_lines(changes: Sequence[KeyChange]) -> list[str]:
    texts = dict.fromkeys(change.key.partition(".")[0] for change in changes)
    named = [key for key in texts if key in _TEXTS]
    lines = [_change(*change) for change in changes if change.key.partition(".")[0] not in named]
    return [*lines, f"~ {', '.join(named)}"] if named else lines


def _section(title: str, lines: Sequence[str]) -> Iterator[str]:
    if not lines:
        return
    yield title
    shown = lines if len(lines) <= _MOST_LINES + 1 else lines[:_MOST_LINES]
    yield from (f"  {line}" for line in shown)
    if len(shown) < len(lines):
        yield f"  ... and {len(lines) - len(shown)} more, which --json lists"


def _change(key: str, before: str | None, after: str | None) -> str:
    if before is None or after is None:
        return f"{'+' if before is None else '-'} {key}: {_short(after or before or '')}"
    return f"~ {key}: {_short(before)} -> {_short(after)}"


def _edge(change: EdgeChange) -> str:
    more = "" if change.edges == 1 else f" and {change.edges - 1} more"
    return f"{'+' if change.added else '-'} {change.example}{more} ({change.origin})"


def _order(change: OrderChange) -> str:
    place = f"after {change.previous}" if change.previous else "from its start"
    return f"~ {change.stream}, {place}: {change.before or 'nothing'} -> {change.after or 'nothing'}"


def _both(row: _Row) -> str:
    same = row.before == row.after
    values = row.show(row.before) if same else f"{row.show(row.before)} -> {row.show(row.after)}"
    return f"{' ' if same else '~'} {row.label or row.name:<9}  {values}"


def _document(difference: _Difference) -> dict[str, Any]:
    return {
        "schema": "asyncpipe.diff/1",
        "same": difference.is_empty,
        "files": [side.schedule.file for side in (difference.before, difference.after)],
        "stages": difference.before.stages,
        "keys": [change._asdict() for change in difference.keys],
        "streams": [{"name": name, "before": before, "after": after} for name, before, after in difference.streams],
        "edges": [change._asdict() for change in difference.edges],
        "order": [
            {**change._asdict(), **{key: _text(getattr(change, key)) for key in ("previous", "before", "after")}}
            for change in difference.order
        ],
        "numbers": {row.name: {"before": _plain(row.before), "after": _plain(row.after)} for row in difference.numbers},
    }


def _text(value: object) -> str | None:
    return None if value is None else str(value)


def _plain(value: Number | tuple[Number, ...]) -> float | list[float]:
    if isinstance(value, tuple):
        return [number if isinstance(number, int) else float(number) for number in value]
    return float(value)

"""A compiled schedule against the plain replay: the same streams, orders, versions, staleness and period."""

from __future__ import annotations

from fractions import Fraction
from itertools import pairwise
from typing import Any

from asyncpipe.compiler import Compiled
from asyncpipe.ir import Action, Op, Table
from tests.library.plain_clock import PlainRun, run
from tests.library.plain_diagram import PlainAction, PlainDiagram

__all__ = ["assert_agrees", "plain_staleness"]


def plain(action: Action) -> PlainAction:
    return action.stage, str(action.op), action.index


def assert_agrees(compiled: Compiled, name: str, n: int, changes: dict[str, Any] | None = None) -> PlainRun:
    """Compares the first half of n microbatches, which the end of the run cannot reach; gives the plain run."""
    found = run(PlainDiagram(name, compiled.stages, n, changes))
    diagram = found.diagram
    assert len(found.times) == len(diagram.stream_of), "the plain replay deadlocks"
    until = n // 2
    last = max(end for a, (_, end) in found.times.items() if diagram.microbatch(a) < until)
    first = min(start for a, (start, _) in found.times.items() if diagram.microbatch(a) >= n - n // 6)
    assert last <= first, "the end of the run reaches the compared half"
    devices = {stream.name: stream.device for stream in compiled.diagram.streams}
    assert devices == dict(zip(diagram.names, diagram.device, strict=True))
    table = compiled.table(n)
    for number, stream in enumerate(table.streams):
        order = found.orders[diagram.names.index(stream.name)]
        half = [a for a in order if diagram.microbatch(a) < until]
        assert [a for a in map(plain, table.actions(number)) if diagram.microbatch(a) < until] == half
    for action, times in found.times.items():
        if diagram.microbatch(action) < until:
            ours = Action(action[0], Op(action[1]), action[2])
            ticks = compiled.plan.time(ours, diagram.every)
            assert tuple(t * compiled.ticks.unit for t in ticks) == times, ours
    _assert_same_reads(table, found, until)
    return found


def _assert_same_reads(table: Table, found: PlainRun, until: int) -> None:
    """The body states what it reads in the long run: what its first iterations stash may be of the warmup."""
    for stream in table.streams:
        cells = [(cell.action, cell.reads) for cell in stream.warmup]
        for k in range(table.iterations or 0):
            shift = (table.start + k * table.step) // table.every
            body = [(table.absolute(c.action, k), None if c.reads is None else c.reads + shift) for c in stream.body]
            cells += [(action, reads) for action, reads in body if action.index >= table.start]
        for action, reads in cells:
            if reads is not None and action.index < until:
                assert found.reads[plain(action)] == reads, action


def plain_staleness(found: PlainRun) -> tuple[tuple[Fraction, ...], tuple[int, ...], Fraction]:
    """(mean, maximum) of the staleness of each stage and the period, over whole rounds of the steady state."""
    diagram, n = found.diagram, found.diagram.n
    window = range(n // 4, n // 2)
    starts = [found.times[0, "F", m][0] for m in window]
    rows = [[found.staleness(s, m) for m in window] for s in range(diagram.S)]
    steps = [b - a for a, b in pairwise(starts)]
    shown: list[list[Any]] = [*rows, steps]
    rounds = next(p for p in range(1, len(steps)) if all(_repeats(row, p) for row in shown))
    late = [[value for value in row[:rounds] if value is not None] for row in rows]
    means = tuple(Fraction(sum(row), len(row)) for row in late)
    return means, tuple(map(max, late)), sum(steps[:rounds], Fraction(0)) / rounds


def _repeats(row: list[Any], period: int) -> bool:
    return len(row) >= 2 * period and all(a == b for a, b in zip(row, row[period:], strict=False))

"""What differs between two compiled schedules of the same stages: what waits for what, and the order of a stream."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice, zip_longest
from math import lcm
from typing import NamedTuple

from asyncpipe.ir import Action, Op, Table
from asyncpipe.passes.diagram import Diagram

__all__ = ["EdgeChange", "OrderChange", "changed_edges", "changed_order"]

_MOST_PHASES = 64
"""So many microbatches of the steady state are compared: two large periods may have a huge common multiple."""


class EdgeChange(NamedTuple):
    """Edges of one origin that only one side has: how many kinds, `added` or removed, and one of them."""

    added: bool
    origin: str
    edges: int
    example: str


class OrderChange(NamedTuple):
    """The first action of a stream that differs; None where that side's stream has ended, or does not begin."""

    stream: str
    position: int
    previous: Action | None
    before: Action | None
    after: Action | None


class _Edge(NamedTuple):
    """A kind of edge; its indices are written as in a rule."""

    target: tuple[Op, int]
    source: tuple[Op, int]
    source_index: str

    def __str__(self) -> str:
        (op, stage), (source, source_stage) = self.target, self.source
        return f"{op}[{stage}, {'g' if op.by_update else 'm'}] after {source}[{source_stage}, {self.source_index}]"


def changed_edges(before: Diagram, after: Diagram) -> tuple[EdgeChange, ...]:
    """The edges that one side lacks, in the steady state, by the rule or the reason that makes them."""
    phases = min(lcm(before.repeats[1], after.repeats[1]), _MOST_PHASES)
    settled = max(before.repeats[0], after.repeats[0]) + max(before.back, after.back)
    base = lcm(before.every, after.every) * phases
    base *= settled // base + 1
    old, new = (_edges(diagram, base, phases) for diagram in (before, after))
    return (*_only(old, new, added=False), *_only(new, old, added=True))


def _edges(diagram: Diagram, base: int, phases: int) -> dict[_Edge, str]:
    """The kinds of edges that reach these microbatches, with the reason of each."""
    found: dict[_Edge, str] = {}
    for op, stage in diagram.ops:
        unit = diagram.every if op.by_update else 1
        for index in range(base // unit, (base + phases - 1) // unit + 1):
            target = Action(stage, op, index)
            for source, origin in diagram.predecessors(target):
                edge = _Edge((op, stage), (source.op, source.stage), _index(diagram, target, source))
                found.setdefault(edge, origin.text)
    return found


def _index(diagram: Diagram, target: Action, source: Action) -> str:
    """The source's index by the target's: m, g, or hi, the last microbatch of an update."""
    microbatch = diagram.microbatch(target)
    if source.op.by_update:
        name, offset = "g", source.index - microbatch // diagram.every
    else:
        name, offset = "hi" if target.op.by_update else "m", source.index - microbatch
    return f"{name}{offset:+d}" if offset else name


def _only(here: dict[_Edge, str], there: dict[_Edge, str], *, added: bool) -> Iterator[EdgeChange]:
    by_origin: dict[str, list[_Edge]] = {}
    for edge, origin in here.items():
        if edge not in there:
            by_origin.setdefault(origin, []).append(edge)
    for origin, edges in by_origin.items():
        yield EdgeChange(added, origin, len(edges), str(edges[0]))


def changed_order(before: Table, after: Table) -> tuple[OrderChange, ...]:
    """The first place where each stream that both have differs; the tables are endless."""
    numbers = {row.name: number for number, row in enumerate(after.streams)}
    common = [(i, numbers[row.name]) for i, row in enumerate(before.streams) if row.name in numbers]
    changes = (_first_difference(before, i, after, j) for i, j in common)
    return tuple(change for change in changes if change is not None)


def _first_difference(before: Table, i: int, after: Table, j: int) -> OrderChange | None:
    """Two sequences with periods p and q that agree on p + q actions after both began to repeat agree for ever."""
    rows = (before.streams[i], after.streams[j])
    enough = max(len(row.warmup) for row in rows) + sum(len(row.body) for row in rows) + 1
    pairs = islice(zip_longest(before.actions(i), after.actions(j)), enough)
    previous: Action | None = None
    for position, (old, new) in enumerate(pairs):
        if old != new:
            return OrderChange(rows[0].name, position, previous, old, new)
        previous = old
    return None

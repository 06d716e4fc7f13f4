"""`weights.forward: lag(n)`: how many versions of a stage's parameters are kept, and the edges that protect them.

An update overwrites the oldest version; it waits for the last readers of that version, so that a run that is not in
time with its plan cannot read half of a newer one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

from asyncpipe.ir import Action, Op
from asyncpipe.passes.diagram import Diagram, EdgeFamily, Origin
from asyncpipe.passes.plan import Plan
from asyncpipe.schedule import Weights

__all__ = ["assign_versions", "with_version_edges"]


def assign_versions(diagram: Diagram, plan: Plan, weights: Weights) -> tuple[int, ...]:
    """Per stage the fewest versions with which no update waits in the planned timing; 1 where no version is kept."""
    if weights.forward != "lag":
        return (1,) * diagram.stages
    return tuple(_versions(diagram, plan, weights, stage) for stage in range(diagram.stages))


def _readers(diagram: Diagram, weights: Weights, stage: int) -> Iterator[Op]:
    yield Op.F
    if weights.backward == "same":
        yield diagram.gradient_op(stage)


def _versions(diagram: Diagram, plan: Plan, weights: Weights, stage: int) -> int:
    """Version v is read for update v + lag, and overwritten by update v + versions - 1."""
    every, lag = diagram.every, weights.lag
    steady = range(plan.start + 2 * plan.microbatches)
    readers = [(Action(stage, op, m), m // every - lag) for m in steady for op in _readers(diagram, weights, stage)]
    ends = [(plan.ends(reader, every), version) for reader, version in readers if version >= 0]
    count = lag + 1
    while not all(end <= plan.starts(Action(stage, Op.U, version + count - 1), every) for end, version in ends):
        count += 1
    return count


def with_version_edges(diagram: Diagram, versions: tuple[int, ...], weights: Weights) -> Diagram:
    """The diagram with U[s, g] after the readers of the version that it overwrites."""
    if weights.forward != "lag":
        return diagram
    families = dict(diagram.families)
    for stage, count in enumerate(versions):
        origin = Origin(f"version g % {count} is reused")
        for op in _readers(diagram, weights, stage):
            for k in range(diagram.every):
                index = _reader_of(diagram.every, k, 1 - count + weights.lag)
                families[Op.U, stage] = (*families[Op.U, stage], EdgeFamily(op, stage, index, origin))
    return replace(diagram, families=families)


def _reader_of(every: int, k: int, ahead: int) -> Callable[[int, int | None], int | None]:
    return lambda g, n: (g + ahead) * every + k

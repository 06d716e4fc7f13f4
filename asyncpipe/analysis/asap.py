"""When each launch of a run starts and ends, if everything starts as early as streams, events and holds let it.

One pass in host issue order, in whole ticks. Replicas meet at their synchronisations: none goes on before all are
there. Those that nothing tells apart are one class, and only classes are computed.
"""

from __future__ import annotations

from collections.abc import Sequence
from operator import add, sub
from typing import NamedTuple

from asyncpipe.analysis.launch_graph import LaunchGraph
from asyncpipe.analysis.timing import Ticks
from asyncpipe.ir import Op, Program

__all__ = ["Times", "earliest_times", "meets"]


class Times(NamedTuple):
    """Per launch, in ticks; `starts` after the hold, when the action reads."""

    starts: list[int]
    ends: list[int]


def meets(program: Program) -> bool:
    """Whether the replicas wait for each other at each synchronisation; who pushes parameters waits for nobody."""
    return program.replicas > 1 and program.sync[:1] not in ((), ("push",))


def earliest_times(graph: LaunchGraph, ticks: Ticks) -> list[Times]:
    """The times of each class of replicas."""
    totals = [_with_holds(costs, held) for costs, held in zip(ticks.costs, ticks.holds, strict=True)]
    joint = len(totals) > 1 and meets(graph.program)
    ends = _ends_together(graph, totals) if joint else [_ends(graph, total) for total in totals]
    return [Times(list(map(sub, end, costs)), end) for end, costs in zip(ends, ticks.costs, strict=True)]


def _with_holds(costs: list[int], held: dict[int, int]) -> list[int]:
    if not held:
        return costs
    holds = [0] * len(costs)
    for launch, hold in held.items():
        holds[launch] = hold
    return list(map(add, costs, holds))


def _ends(graph: LaunchGraph, totals: Sequence[int]) -> list[int]:
    free = [0] * len(graph.program.streams)
    ends: list[int] = []
    for stream, waits, total in zip(graph.stream, graph.waits, totals, strict=True):
        end = free[stream]
        for launch in waits:
            other = ends[launch]
            if other > end:
                end = other
        end += total
        free[stream] = end
        ends.append(end)
    return ends


def _ends_together(graph: LaunchGraph, totals: Sequence[Sequence[int]]) -> list[list[int]]:
    """As `_ends`, for classes that wait for each other at each SYNC."""
    free = [[0] * len(graph.program.streams) for _ in totals]
    ends: list[list[int]] = [[] for _ in totals]
    classes = range(len(totals))
    for number, (stream, waits) in enumerate(zip(graph.stream, graph.waits, strict=True)):
        ready = [max([free[c][stream], *[ends[c][launch] for launch in waits]]) for c in classes]
        if graph.keys[graph.key[number]][0] is Op.SYNC:
            ready = [max(ready)] * len(ready)
        for c in classes:
            free[c][stream] = ready[c] + totals[c][number]
            ends[c].append(free[c][stream])
    return ends

"""The body of a program as a graph of cycles: what each launch waits for, and so many iterations back."""

from __future__ import annotations

from asyncpipe.analysis.asap import meets
from asyncpipe.analysis.cycles import Arc
from asyncpipe.analysis.launch_graph import LaunchGraph
from asyncpipe.analysis.timing import Ticks
from asyncpipe.ir import Op

__all__ = ["body_graph"]


def body_graph(graph: LaunchGraph, ticks: Ticks) -> list[list[Arc]]:
    """Arcs to each launch of the body, class after class: its stream, its events, and where replicas meet, theirs.

    `ticks` are those of the graph; the last iteration stands for all.
    """
    count = len(ticks.costs)
    joint = meets(graph.program) and count > 1
    before = _stream_order(graph)
    last = graph.first + (graph.iterations - 1) * graph.width
    arcs: list[list[Arc]] = []
    for number, (costs, held) in enumerate(zip(ticks.costs, ticks.holds, strict=True)):
        for place, launch in enumerate(graph.body):
            weight = costs[last + place] + held.get(last + place, 0)
            meeting = joint and graph.keys[launch.key][0] is Op.SYNC
            classes = range(count) if meeting else (number,)
            waits = dict.fromkeys([before[place], *launch.waits])
            arcs.append([Arc(c * graph.width + source, weight, back) for c in classes for back, source in waits])
    return arcs


def _stream_order(graph: LaunchGraph) -> list[tuple[int, int]]:
    """Per launch of the body (iterations back, place) of the one before it in its stream."""
    last = {launch.stream: place for place, launch in enumerate(graph.body)}
    seen: set[int] = set()
    found = []
    for place, launch in enumerate(graph.body):
        found.append((0 if launch.stream in seen else 1, last[launch.stream]))
        seen.add(launch.stream)
        last[launch.stream] = place
    return found

"""The order of effects at one instant, as `ir.replay` has it: ends, then what costs nothing, then starts.

A moment is (tick, phase, place): comparing two moments tells which effect comes first, also where ticks are equal.
"""

from __future__ import annotations

import heapq
from collections.abc import Sequence

from asyncpipe.analysis.asap import Times
from asyncpipe.analysis.launch_graph import LaunchGraph
from asyncpipe.ir import Op

__all__ = ["Moment", "Moments"]

Moment = tuple[int, int, int]
_ENDS, _SETTLES, _STARTS = range(3)


class Moments:
    """When the launches of one class read, at their start, and write, at their end."""

    def __init__(self, graph: LaunchGraph, times: Times, costs: Sequence[int]) -> None:
        self.graph = graph
        self.times = times
        self.costs = costs
        self.settled = _settle_order(graph, times, costs)

    def start(self, launch: int) -> Moment:
        tick = self.times.starts[launch]
        return (tick, _STARTS, 0) if self.costs[launch] else (tick, _SETTLES, self.settled[launch])

    def end(self, launch: int) -> Moment:
        """Simultaneous ends count in ascending order of the index."""
        tick = self.times.ends[launch]
        if self.costs[launch]:
            return tick, _ENDS, self.graph.index[launch]
        return tick, _SETTLES, self.settled[launch]


def _settle_order(graph: LaunchGraph, times: Times, costs: Sequence[int]) -> dict[int, int]:
    """The place of each launch that costs nothing among those of its instant."""
    instants: dict[int, list[int]] = {}
    for launch, cost in enumerate(costs):
        if not cost:
            instants.setdefault(times.ends[launch], []).append(launch)
    order: dict[int, int] = {}
    for launches in instants.values():
        settled = launches if len(launches) == 1 else _settle(graph, launches)
        order.update((launch, place) for place, launch in enumerate(settled))
    return order


def _settle(graph: LaunchGraph, launches: list[int]) -> list[int]:
    """Again and again the most urgent one that waits for none of the others."""
    among = set(launches)
    followers: dict[int, list[int]] = {launch: [] for launch in launches}
    missing = {}
    for launch in launches:
        sources = among.intersection((*graph.waits[launch], graph.previous[launch]))
        missing[launch] = len(sources)
        for source in sources:
            followers[source].append(launch)
    ready = [_urgency(graph, launch) for launch in launches if not missing[launch]]
    heapq.heapify(ready)
    settled = []
    while ready:
        launch = heapq.heappop(ready)[-1]
        settled.append(launch)
        for follower in followers[launch]:
            missing[follower] -= 1
            if not missing[follower]:
                heapq.heappush(ready, _urgency(graph, follower))
    return settled


def _urgency(graph: LaunchGraph, launch: int) -> tuple[int, ...]:
    """Updates first, then lower microbatches, then data order, then lower streams."""
    (op, stage), every = graph.keys[graph.key[launch]], graph.program.every
    index, stream = graph.index[launch], graph.stream[launch]
    order = stage if op in (Op.F, Op.SEND_F) else graph.program.stages - 1 - stage
    return (0, index * every + every - 1, order, stream, launch) if op.by_update else (1, index, order, stream, launch)

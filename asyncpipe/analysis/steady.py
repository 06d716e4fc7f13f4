"""The steady state of a program under exact times: it runs until all recurs, and one recurrence is looked at.

Where nothing recurs, as when independent workers go at different speeds, the later half of the run is looked at.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property

from asyncpipe.analysis.asap import Times, earliest_times, meets
from asyncpipe.analysis.body_graph import body_graph
from asyncpipe.analysis.cycles import cycle_times
from asyncpipe.analysis.launch_graph import LaunchGraph, steady_graph
from asyncpipe.analysis.moments import Moments
from asyncpipe.analysis.recurrence import Recurrence, find_recurrence
from asyncpipe.analysis.timing import Ticks, Timing, replica_classes, ticks
from asyncpipe.ir import Program

__all__ = ["SteadyRun", "Window", "run_steady"]

_MOST_LAUNCHES = 400_000
"""So long a run is searched for a recurrence."""
_MANY_MICROBATCHES = 256
"""So long a run shows what does not recur."""


@dataclass(frozen=True)
class Window:
    """Ticks from `begin` up to, not including, `end`. Whatever follows the run would come at `end` or later."""

    begin: int
    end: int

    @property
    def length(self) -> int:
        return self.end - self.begin


@dataclass(frozen=True)
class SteadyRun:
    """One class of equal replicas: `members`, its times, and the window in which it is looked at."""

    graph: LaunchGraph
    ticks: Ticks
    number: int
    members: tuple[int, ...]
    times: Times = field(repr=False)
    recurrence: Recurrence | None
    window: Window

    @property
    def costs(self) -> list[int]:
        return self.ticks.costs[self.number]

    @property
    def holds(self) -> dict[int, int]:
        return self.ticks.holds[self.number]

    @cached_property
    def moments(self) -> Moments:
        return Moments(self.graph, self.times, self.costs)


def run_steady(program: Program, timing: Timing) -> list[SteadyRun]:
    """The steady state of each class of replicas; the first class holds most of them."""
    classes = replica_classes(program, timing)
    iterations = steady_graph(program, 1).reach + 2
    while True:
        graph = steady_graph(program, iterations)
        exact = ticks(graph, timing, classes)
        times = earliest_times(graph, exact)
        groups = [times] * len(times) if meets(program) else [[each] for each in times]
        found = [find_recurrence(graph, group) for group in groups]
        needed = max(_iterations_needed(graph, t, r) for t, r in zip(times, found, strict=True))
        long = iterations * program.step >= _MANY_MICROBATCHES
        if needed <= iterations or needed * graph.width > _MOST_LAUNCHES or (long and _drifts(graph, exact)):
            return [_steady(graph, exact, i, m, times[i], found[i]) for i, m in enumerate(classes)]
        iterations = needed


def _drifts(graph: LaunchGraph, exact: Ticks) -> bool:
    """Whether some launches of a class go another pace than others: then nothing ever recurs."""
    times = cycle_times(body_graph(graph, exact))
    return any(len(set(times[c * graph.width : (c + 1) * graph.width])) > 1 for c in range(len(exact.costs)))


def _iterations_needed(graph: LaunchGraph, times: Times, found: Recurrence | None) -> int:
    """So many that all that is under way in the last recurrence, from the first forward on, began to recur before."""
    if found is None:
        return 2 * graph.iterations
    every, step = graph.program.every, graph.program.step
    begin = graph.first + (graph.iterations - 1) * graph.width
    under_way = max(times.ends[begin:]) - min(times.starts[begin:])
    overlap = -(-under_way * found.iterations // found.ticks)
    microbatches = [b.index * every if graph.keys[b.key][0].by_update else b.index for b in graph.body]
    spread = -(-(max(microbatches) - min(microbatches)) // step)
    return found.first + found.iterations + 2 * overlap + spread + 3


def _steady(
    graph: LaunchGraph, exact: Ticks, number: int, members: tuple[int, ...], times: Times, found: Recurrence | None
) -> SteadyRun:
    begin = graph.first + (graph.iterations - 1) * graph.width
    end = min(times.starts[begin:])
    window = Window(end - found.ticks if found else end // 2, end)
    return SteadyRun(graph, exact, number, members, times, found, window)

"""Where a run becomes periodic: every launch of the body comes equally long after the one some iterations before.

If that holds for as many iterations as waits reach back, it holds for ever: starts are maxima of sums, and adding the
same to all that enters a maximum adds it to the maximum.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from asyncpipe.analysis.asap import Times
from asyncpipe.analysis.launch_graph import LaunchGraph

__all__ = ["Recurrence", "find_recurrence"]

_MOST_ITERATIONS = 24
"""The longest recurrence that is looked for."""


@dataclass(frozen=True)
class Recurrence:
    """From iteration `first` on, all comes again after `iterations` iterations, `ticks` later."""

    first: int
    iterations: int
    ticks: int


def find_recurrence(graph: LaunchGraph, times: Sequence[Times]) -> Recurrence | None:
    """The recurrence in which the run ends, for classes that are timed together."""
    for cycle in range(1, min(_MOST_ITERATIONS, graph.iterations - graph.reach) + 1):
        ticks = _advance(graph, times[0], graph.iterations - 1, cycle)
        first = graph.iterations
        while first > cycle and _advances(graph, times, first - 1, cycle, ticks):
            first -= 1
        if graph.iterations - first >= graph.reach:
            return Recurrence(first - cycle, cycle, ticks)
    return None


def _advance(graph: LaunchGraph, times: Times, iteration: int, cycle: int) -> int:
    launch = graph.first + iteration * graph.width
    return times.ends[launch] - times.ends[launch - cycle * graph.width]


def _advances(graph: LaunchGraph, times: Sequence[Times], iteration: int, cycle: int, ticks: int) -> bool:
    begin = graph.first + iteration * graph.width
    now = slice(begin, begin + graph.width)
    then = slice(now.start - cycle * graph.width, now.stop - cycle * graph.width)
    return all(a - b == ticks for each in times for a, b in zip(each.ends[now], each.ends[then], strict=True))

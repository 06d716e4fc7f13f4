"""As soon as possible: the earliest start of each run, exact in integer ticks, or where the devices stand for ever.

The idle time of a device before run i is idle[i] = max(idle[i - 1], idle[source of i] + slack[i]): along a device a
running maximum, which numpy takes at once. We go over the devices forth and back until nothing changes. Without a
cycle these equations have one solution, so what has settled is exact; and where every action takes time, what has
settled has no cycle. Pipelines settle in a few sweeps. What does not is walked run by run; so many sweeps as we try
cost as much as a walk.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from asyncpipe.errors import UsageError
from asyncpipe.tables.flat_graph import Graph
from asyncpipe.tables.flat_table import Int64

__all__ = ["LONGEST", "SWEEPS", "Settled", "Stuck", "settle"]

SWEEPS = 16
LONGEST = 1 << 60
"""Ticks; all costs together must not exceed them."""
_NEVER = -(1 << 62)


@dataclass(frozen=True, eq=False)
class Settled:
    """Per run: when its device would have started it if it had never idled, and how long it idled before."""

    at: Int64
    idle: Int64
    total: Int64
    """The costs of all actions before each one, summed over the whole table; one more than actions."""
    tangled: bool
    """Whether it took a walk."""


@dataclass(frozen=True)
class Stuck:
    """The run at which each device stands for ever; -1 for devices that come to their end."""

    runs: tuple[int, ...]


def settle(graph: Graph, cost: NDArray[np.integer], latency: Int64) -> Settled | Stuck:
    """Earliest starts where actions cost `cost` and what device a sends reaches b `latency[a, b]` later, in ticks."""
    total = np.zeros(len(cost) + 1, np.int64)
    np.cumsum(cost, out=total[1:])
    if max(cost.max(initial=0), latency.max(initial=0)) > LONGEST // max(1, len(cost)):
        raise UsageError("these costs add up to more than 2^60 ticks", "use a larger unit of time")
    base = np.repeat(total[graph.table.offsets[:-1]], np.diff(graph.first))
    at = total[graph.runs] - base
    slack = _slack(graph, total, base, latency) - at
    swept = None if graph.tangled else _sweep(graph, slack)
    idle = _walk(graph, slack) if swept is None else swept
    return idle if isinstance(idle, Stuck) else Settled(at, idle, total, swept is None)


def _slack(graph: Graph, total: Int64, base: Int64, latency: Int64) -> Int64:
    """Per run: when what it waits for arrives, if the sender has not idled."""
    sender = np.minimum(graph.source_run, max(0, len(graph.runs) - 1))
    arrival = total[graph.source + 1] - base[sender]
    if latency.any():
        arrival += latency[graph.device[sender], graph.device]
    return arrival


def _sweep(graph: Graph, slack: Int64) -> Int64 | None:
    """Idle times, or None if they have not settled after `SWEEPS` sweeps."""
    count = graph.table.devices
    idle = np.zeros(len(graph.runs) + 1, np.int64)
    idle[-1] = _NEVER
    readers = graph.readers
    stale = [True] * count
    for sweep in range(SWEEPS):
        for device in range(count) if sweep % 2 == 0 else reversed(range(count)):
            if stale[device]:
                stale[device] = False
                if _relax(slice(*graph.first[device : device + 2]), graph.source_run, slack, idle):
                    for reader in readers[device]:
                        stale[reader] = True
        if not any(stale):
            return idle[:-1]
    return None


def _relax(row: slice, source_run: Int64, slack: Int64, idle: Int64) -> bool:
    """One device's idle times from those of the others; whether they changed."""
    later = idle[source_run[row]]
    later += slack[row]
    np.maximum(later, idle[row], out=later)
    np.maximum.accumulate(later, out=later)
    if np.array_equal(later, idle[row]):
        return False
    idle[row] = later
    return True


def _walk(graph: Graph, slack: Int64) -> Int64 | Stuck:
    """Idle times run by run, each device as far as it can go, in turns."""
    count, bounds = len(graph.runs), graph.first.tolist()
    idle: list[int | None] = [*[None] * count, _NEVER, None]
    ahead = [_ahead(graph, slack, a, b) for a, b in pairwise(bounds)]
    here = [next(row) for row in ahead]
    at, late = bounds[:-1], [0] * graph.table.devices
    moved = True
    while moved:
        moved = False
        for device, row in enumerate(ahead):
            source, slack_here = here[device]
            known = idle[source]
            if known is None:
                continue
            i, most = at[device], late[device]
            while known is not None:
                if known + slack_here > most:
                    most = known + slack_here
                idle[i] = most
                i += 1
                source, slack_here = next(row)
                known = idle[source]
            here[device], at[device], late[device], moved = (source, slack_here), i, most, True
    stuck = tuple(i if i < end else -1 for i, end in zip(at, bounds[1:], strict=True))
    return Stuck(stuck) if max(stuck, default=-1) >= 0 else np.array(idle[:count], np.int64)


def _ahead(graph: Graph, slack: Int64, start: int, end: int) -> Iterator[tuple[int, int]]:
    """What the runs of one device wait for, ended by something that never happens."""
    never = len(graph.runs) + 1
    return zip([*graph.source_run[start:end].tolist(), never], [*slack[start:end].tolist(), 0], strict=True)

"""Who waits for whom in a flat table, made small: runs of actions that can only be late together.

On its device an action starts when the one before it ends. Only an action that waits for another device can start later
than that; it begins a run. Within a run all times follow from the start of the run.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from asyncpipe.tables.flat_table import FlatTable, Int64

__all__ = ["Graph", "Hops", "Planes", "build_graph"]

Planes = NDArray[np.int32]
"""[op, stage, microbatch] -> the index of that action in the table, or -1; or some of its planes or rows."""
Hops = list[tuple[Planes, Planes]]
"""Indices of actions: each of the second waits for its partner in the first."""


@dataclass(frozen=True, eq=False)
class Graph:
    """The runs of a table, device by device. All indices count from the start of the table."""

    table: FlatTable
    runs: Int64
    """The first action of each run."""
    first: Int64
    """The first run of each device, and the number of runs."""
    device: Int64
    """Per run."""
    source: Int64
    """The action on another device that a run waits for; 0 where it waits for none."""
    source_run: Int64
    """The run of that action; the number of runs where there is none."""
    tangled: bool = False
    """Whether earliest times are known not to settle in a few sweeps."""

    @property
    def readers(self) -> list[list[int]]:
        """Per device the devices that wait for it."""
        count = self.table.devices
        waits = self.source_run < len(self.runs)
        pairs = self.device[self.source_run[waits]] * count + self.device[waits]
        found = np.bincount(pairs, minlength=count * count).reshape(count, count)
        return [np.flatnonzero(row).tolist() for row in found]


def build_graph(table: FlatTable, hops: Hops) -> Graph:
    """The runs of a table whose waits between devices are `hops`, not more than one for each action."""
    waits_for = np.full(len(table), -1, np.int32)
    for before, after in hops:
        waits_for[after.ravel()] = before.ravel()
    starts = waits_for >= 0
    starts[table.offsets[:-1][np.diff(table.offsets) > 0]] = True
    runs = np.flatnonzero(starts)
    run_of = np.cumsum(starts, dtype=np.int32)
    first = np.searchsorted(runs, table.offsets)
    source = waits_for[runs].astype(np.int64)
    none = source < 0
    source[none] = 0
    source_run = run_of[source].astype(np.int64) - 1 if len(runs) else source
    source_run[none] = len(runs)
    return Graph(table, runs, first, np.repeat(np.arange(table.devices), np.diff(first)), source, source_run)

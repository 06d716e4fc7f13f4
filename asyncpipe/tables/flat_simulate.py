"""When each action of a verified flat table starts and ends, as soon as possible, exact in integer ticks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from operator import index

import numpy as np

from asyncpipe.errors import InternalError, UsageError
from asyncpipe.tables.flat_graph import Graph
from asyncpipe.tables.flat_settle import LONGEST, Stuck, settle
from asyncpipe.tables.flat_table import OPS, Int64

__all__ = ["TickCosts", "Times", "retime", "simulate"]

TickCosts = Mapping[str, int | Sequence[int]]
"""Per op (`F`, `SEND_F`, ...) the ticks of every stage, or of each stage in turn; transfers not given cost 0."""


@dataclass(frozen=True, eq=False)
class Times:
    """Starts and ends in ticks, in the order of the table; `busy` and `bubble` (idle until the makespan) per device."""

    graph: Graph
    latency: Int64
    start: Int64
    end: Int64
    makespan: int
    busy: Int64

    @property
    def bubble(self) -> Int64:
        return self.makespan - self.busy


def simulate(graph: Graph, costs: TickCosts, latency: int | Sequence[Sequence[int]] = 0) -> Times:
    """The earliest times: a device runs one action after another; a RECV starts `latency` after its SEND, or later.

    `latency` in ticks, for all links or as `latency[from][to]`. In a table that is not lowered, what needs the result
    of another device starts so much after it. UsageError for costs that are missing, negative or no integers.
    """
    table = graph.table
    return _times(graph, _per_action(graph, costs), _link_latency(latency, table.devices))


def retime(times: Times, costs: TickCosts) -> Times:
    """The same table under other costs; nothing but the times is computed again."""
    return _times(times.graph, _per_action(times.graph, costs), times.latency)


def _times(graph: Graph, cost: Int64, latency: Int64) -> Times:
    settled = settle(graph, cost, latency)
    if isinstance(settled, Stuck):
        raise InternalError(f"a verified table cannot run to its end: {settled}")
    table, total = graph.table, settled.total
    lengths = np.diff(graph.runs, append=len(table))
    start = np.repeat(settled.idle + settled.at - total[graph.runs], lengths)
    start += total[:-1]
    end = start + cost
    return Times(graph, latency, start, end, int(end.max(initial=0)), np.diff(total[table.offsets]))


def _per_action(graph: Graph, costs: TickCosts) -> Int64:
    table = graph.table
    unknown = [op for op in costs if op not in OPS]
    if unknown:
        raise UsageError(f"costs: expected one of {', '.join(OPS)}, found {unknown[0]!r}", "correct the name")
    used = np.bincount(table.op, minlength=len(OPS)) > 0
    ticks = np.array([_ticks(op, costs, table.stages, bool(used[code])) for code, op in enumerate(OPS)], np.int64)
    code = np.multiply(table.op, table.stages, dtype=np.intp)
    code += table.stage
    return ticks.ravel()[code]


def _ticks(op: str, costs: TickCosts, stages: int, used: bool) -> list[int]:
    given = costs.get(op)
    if given is None:
        if used and len(op) == 1:
            raise UsageError(f"costs: {op} is missing", f"give the ticks of {op}, for all stages or for each")
        given = 0
    try:
        values = list(map(index, given)) if isinstance(given, Sequence) else [index(given)] * stages
    except TypeError:
        values = []
    if len(values) != stages or min(values, default=0) < 0:
        expected = f"an integer of at least 0, or {stages} of them"
        raise UsageError(f"costs of {op}: expected {expected}, found {given!r}", "costs are ticks, one for each stage")
    return [min(value, LONGEST + 1) for value in values]


def _link_latency(latency: int | Sequence[Sequence[int]], devices: int) -> Int64:
    given = np.asarray(latency)
    if given.dtype.kind not in "iu" or given.shape not in ((), (devices, devices)) or given.min(initial=0) < 0:
        shape = f"one integer of at least 0, or {devices} x {devices} of them"
        raise UsageError(f"latency: expected {shape}, found {latency!r}", "use ticks")
    return np.broadcast_to(given.astype(np.int64), (devices, devices))

"""Whether a flat table is one update of a pipeline that runs to its end: every action once, in a possible order.

Five steps, each taken only where the one before it finds nothing: numbers in range; every action once, one backward
for each microbatch, each stage on one device; transfers exactly where neighbouring stages lie on different devices; on
each device what gives before what takes; no devices that wait for each other. Linear in the number of actions.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from asyncpipe.tables.flat_faults import Faults
from asyncpipe.tables.flat_graph import Graph, Hops, Planes, build_graph
from asyncpipe.tables.flat_settle import Stuck, settle
from asyncpipe.tables.flat_table import OPS, RECV_B, RECV_F, SEND_B, SEND_F, B, F, FlatTable, I, Int64, W
from asyncpipe.tables.wording import counted

__all__ = ["verify"]

_COMPUTE, _TRANSFER = 16, 1
"""Ticks in the search for cycles: any that are positive will do; these are near to what devices do."""


def verify(table: FlatTable, most: int = 100) -> Graph | Faults:
    """The graph of a valid table, to be timed; or what is wrong with it, of each check not more than `most` faults."""
    faults = Faults(table, most)
    planes = _index(table, faults)
    if planes is None:
        return faults
    place = _check_actions(table, planes, faults)
    if not faults:
        _check_transfers(table, planes, place, faults)
    if faults:
        return faults
    local, hops = _edges(planes, place, table.lowered)
    _check_order(local, faults)
    return faults if faults else _check_ends(table, hops, faults)


def _index(table: FlatTable, faults: Faults) -> Planes | None:
    """Where each action stands first; None where a number is out of range."""
    ops = len(OPS) if table.lowered else F + 4
    if not _is_possible(table, faults):
        return None
    wrong = np.zeros(len(table), bool)
    for numbers, count in ((table.op, ops), (table.stage, table.stages), (table.microbatch, table.microbatches)):
        if len(numbers) and (numbers.min() < 0 or numbers.max() >= count):
            wrong |= (numbers < 0) | (numbers >= count)
    if wrong.any():
        span = f"{', '.join(OPS[:ops])} of {_sizes(table)}"
        faults.add_each("range", np.flatnonzero(wrong), f"{{}} is out of range: the table has {span}")
        return None
    key = np.multiply(table.op, table.stages, dtype=np.intp)
    key += table.stage
    key *= table.microbatches
    key += table.microbatch
    where = np.full(len(OPS) * table.stages * table.microbatches, -1, np.int32)
    where[key] = np.arange(len(table), dtype=np.int32)
    if np.count_nonzero(where >= 0) < len(table):
        where[key[::-1]] = np.arange(len(table) - 1, -1, -1, dtype=np.int32)
        again = np.flatnonzero(where[key] != np.arange(len(table)))
        pairs = zip(again[: faults.most].tolist(), where[key[again[: faults.most]]].tolist(), strict=True)
        faults.add_pairs("duplicate", pairs, len(again), "{} is here a second time")
    return where.reshape(len(OPS), table.stages, table.microbatches)


def _sizes(table: FlatTable) -> str:
    return f"{counted(table.stages, 'stage')} and {counted(table.microbatches, 'microbatch', 'microbatches')}"


def _is_possible(table: FlatTable, faults: Faults) -> bool:
    """Whether there are about as many actions as the numbers of stages and microbatches ask for."""
    wanted = 2 * table.stages * table.microbatches
    sizes = _sizes(table)
    if min(table.stages, table.microbatches) < 1:
        faults.add("range", f"{sizes}: expected at least one of each")
    elif wanted > 8 * len(table) + 1_000_000:
        faults.add("missing", f"{sizes} need at least {wanted} actions, found {len(table)}")
    return not faults


def _check_actions(table: FlatTable, planes: Planes, faults: Faults) -> Int64:
    """Every forward, one backward for each, every stage on one device; the device of each stage."""
    here = planes[: W + 1] >= 0
    faults.add_absent("missing", np.argwhere(~here[F]), "F", "{} is missing")
    whole, half, other = here[B], here[I], here[W]
    faults.add_absent("backward", np.argwhere(~(whole | half | other)), "B", "{} is missing, and no halves I and W")
    faults.add_absent("backward", np.argwhere(half & ~other), "W", "{} is missing: I is there")
    faults.add_absent("backward", np.argwhere(other & ~half), "I", "{} is missing: W is there")
    twice = np.argwhere(whole & (half | other))
    faults.add_each("backward", planes[B][tuple(twice.T)], "{} is a whole backward beside a half of it")
    return _check_devices(table, planes, faults)


def _check_devices(table: FlatTable, planes: Planes, faults: Faults) -> Int64:
    """The device of each stage, -1 where it has no action."""
    highest = planes.max(axis=2)
    lowest = planes.view(np.uint32).min(axis=2)
    place = np.searchsorted(table.offsets[1:], highest.max(axis=0), side="right")
    start, stop = table.offsets[:-1][place], table.offsets[1:][place]
    inside = (highest < 0) | ((lowest >= start) & (highest < stop))
    for stage in np.flatnonzero(~inside.all(axis=0)).tolist():
        indices = np.sort(planes[:, stage][planes[:, stage] >= 0])
        device = np.searchsorted(table.offsets[1:], indices, side="right")
        home = int(np.bincount(device).argmax())
        faults.add_each("device", indices[device != home], f"{{}} is not on device {home}, where stage {stage} is")
    return np.asarray(place, np.int64)


def _check_transfers(table: FlatTable, planes: Planes, place: Int64, faults: Faults) -> None:
    """SEND and RECV for each pair of neighbouring stages on different devices, and nowhere else."""
    apart = place[1:] != place[:-1] if table.lowered else np.zeros(table.stages - 1, bool)
    above, below = np.append(apart, False), np.append(False, apart)
    for op, needed in ((SEND_F, above), (RECV_F, below), (SEND_B, below), (RECV_B, above)):
        here = planes[op] >= 0
        if not np.array_equal(here.all(axis=1), needed) or not np.array_equal(here.any(axis=1), needed):
            faults.add_absent("transfer", np.argwhere(~here & needed[:, None]), OPS[op], "{} is missing")
            extra = planes[op][here & ~needed[:, None]]
            faults.add_each("transfer", extra, "{}: both stages are on this device, or there is no other stage")


def _edges(planes: Planes, place: Int64, lowered: bool) -> tuple[Hops, Hops]:
    """What must come before what: on the same device, and across devices."""
    forward, backward = planes[F], np.maximum(planes[B], planes[I])
    local: Hops = [(forward, backward), (planes[I], planes[W])]
    across: Hops = []
    apart = place[1:] != place[:-1]
    _add_hop((forward[:-1], planes[SEND_F][:-1], planes[RECV_F][1:], forward[1:]), apart, lowered, local, across)
    _add_hop((backward[1:], planes[SEND_B][1:], planes[RECV_B][:-1], backward[:-1]), apart, lowered, local, across)
    return local, across


def _add_hop(steps: tuple[Planes, ...], apart: NDArray[np.bool], lowered: bool, local: Hops, across: Hops) -> None:
    """From the action that gives, through SEND and RECV, to the one that takes; per pair of neighbouring stages."""
    gives, send, receive, takes = steps
    local.append((gives[~apart], takes[~apart]))
    if not lowered:
        across.append((gives[apart], takes[apart]))
        return
    local += [(gives[apart], send[apart]), (receive[apart], takes[apart])]
    across.append((send[apart], receive[apart]))


def _check_order(local: Hops, faults: Faults) -> None:
    for before, after in local:
        late = before > after
        if late.any():
            pairs = list(zip(after[late][: faults.most].tolist(), before[late][: faults.most].tolist(), strict=True))
            faults.add_pairs("order", pairs, int(late.sum()), "{} is before {}, which it needs")


def _check_ends(table: FlatTable, hops: Hops, faults: Faults) -> Graph | Faults:
    """Runs the table. Every action takes time here, so times that fit all of them prove that none waits for itself."""
    graph = build_graph(table, hops)
    ticks = np.where(np.arange(len(OPS)) < SEND_F, _COMPUTE, _TRANSFER).astype(np.int8)
    settled = settle(graph, ticks[table.op], np.zeros((table.devices, table.devices), np.int64))
    if not isinstance(settled, Stuck):
        return replace(graph, tangled=settled.tangled)
    cycle = _cycle(graph, settled)
    names = [str(table.site(index)) for index in cycle]
    waits = "; ".join(f"{a} waits for {b}" for a, b in zip(names[::2], names[1::2], strict=True))
    faults.add("deadlock", f"these devices wait for each other: {waits}", *cycle)
    return faults


def _cycle(graph: Graph, stuck: Stuck) -> list[int]:
    """From a device that stands to the device that it waits for, and so on, until one comes again."""
    device = next(d for d, run in enumerate(stuck.runs) if run >= 0)
    seen: list[int] = []
    while device not in seen:
        seen.append(device)
        device = int(graph.device[graph.source_run[stuck.runs[device]]])
    runs = [stuck.runs[d] for d in seen[seen.index(device) :]]
    return [int(index) for run in runs for index in (graph.runs[run], graph.source[run])]

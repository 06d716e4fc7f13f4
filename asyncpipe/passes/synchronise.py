"""`replicas.sync`: the SYNC actions that keep replicas together, on a stream of their own for each device.

All replicas have the same diagram; this is one of them. What a SYNC waits for in the other replicas shows in the
simulator and at run time, where they may be late.
"""

from __future__ import annotations

from collections.abc import Callable
from math import lcm

from asyncpipe.ir import Op
from asyncpipe.passes.diagram import Index, Origin, Stream
from asyncpipe.passes.place_streams import Assign
from asyncpipe.passes.rule_edges import RuleEdges
from asyncpipe.schedule import Schedule
from asyncpipe.schedule.spec import Sync

__all__ = ["add_synchronisation"]


def add_synchronisation(
    schedule: Schedule,
    place: tuple[int, ...],
    edges: RuleEdges,
    streams: tuple[Stream, ...],
    assign: Assign,
    exists: dict[tuple[Op, int], Callable[[int], bool]],
) -> tuple[Stream, ...]:
    """Adds the SYNC of every stage with its edges; returns the streams with those that run them."""
    sync = schedule.replicas.sync
    if sync is None or schedule.replicas.count == 1:
        return streams
    made: list[Stream] = []
    home = [streams[assign[Op.U, s](0)].device for s in range(len(place))]
    for device in sorted(set(home)):
        name = f"sync[{device}]" if len(set(home)) > 1 else "sync"
        stages = tuple(s for s, d in enumerate(home) if d == device)
        number = len(streams) + len(made)
        made.append(Stream(name, -1, len(made), device, stages, (Op.SYNC,), runs=(Op.SYNC,)))
        for stage in stages:
            assign[Op.SYNC, stage] = _constant(number)
            edges.families[Op.SYNC, stage] = []
    if sync.every > 1:
        edges.modulus = lcm(edges.modulus, sync.every * schedule.update.every)
        exists |= {(Op.SYNC, s): _each(sync.every) for s in range(len(place))}
    ordered = schedule.update.write == "ordered"
    for stage in range(len(place)):
        _edges(sync, stage, edges, Origin(f"replicas.sync: {sync.kind}", schedule.where("replicas")), ordered)
    return (*streams, *made)


def _constant(number: int) -> Callable[[int], int]:
    return lambda index: number


def _each(every: int) -> Callable[[int], bool]:
    return lambda g: (g + 1) % every == 0


def _edges(sync: Sync, s: int, edges: RuleEdges, origin: Origin, is_chain: bool) -> None:
    add, every, families = edges.add, edges.every, edges.families
    if sync.kind == "allreduce":
        for family in [f for f in families[Op.U, s] if f.source in (Op.B, Op.W)]:
            add((Op.SYNC, s), (family.source, s), family.index, origin)
        add((Op.U, s), (Op.SYNC, s), lambda g, n: g, origin)
        return
    stages = range(edges.stages) if sync.granularity == "model" else (s,)
    # Without a chain of updates a blocking synchronisation waits for each since the last one.
    back = sync.every if sync.blocking and not is_chain else 1
    for stage in stages:
        for k in range(back):
            add((Op.SYNC, s), (Op.U, stage), _earlier(k), origin)
    if sync.blocking:
        # The last one before: all that comes until the next one waits, so that nothing overtakes it.
        add((Op.F, s), (Op.SYNC, s), lambda m, n: m // every // sync.every * sync.every - 1, origin)
        add((Op.U, s), (Op.SYNC, s), lambda g, n: g // sync.every * sync.every - 1, origin)


def _earlier(k: int) -> Index:
    return lambda g, n: g - k

"""Transfers between devices: what crosses from one device to another goes over a copy stream for that direction.

A transfer is a copy by the producer's device, so one action stands for a send and its receipt. The edge that it serves
stays; it is implied by the two edges of the transfer.
"""

from __future__ import annotations

from collections.abc import Callable

from asyncpipe.ir import TRANSFERS, Op
from asyncpipe.passes.diagram import EdgeFamily, Origin, Stream
from asyncpipe.passes.place_streams import Assign
from asyncpipe.passes.rule_edges import RuleEdges

__all__ = ["add_transfers"]

_ORDER = (Op.SEND_U, Op.SEND_B, Op.SEND_F, Op.SEND_A)
Key = tuple[Op, int]


def add_transfers(
    stages: int,
    edges: RuleEdges,
    streams: tuple[Stream, ...],
    assign: Assign,
    exists: dict[Key, Callable[[int], bool]],
    updates: int,
    local: range,
) -> tuple[Stream, ...]:
    """Adds the transfers with their edges; returns the streams with a copy stream for each direction in use.

    `updates` is the number of updates after which the streams of all actions repeat; the stages of `local` take no
    gradient from the stage above.
    """
    if len({stream.device for stream in streams}) == 1:
        return streams
    builder = _Transfers(edges, list(streams), assign, exists, updates)
    for s in range(stages):
        back = Op.B if (Op.B, s) in assign else Op.I
        first = Op.R if (Op.R, s) in assign else back
        if s < stages - 1:
            builder.add(Op.SEND_F, (Op.F, s), (Op.F, s + 1))
        if s > 0 and s - 1 not in local:
            builder.add(Op.SEND_B, (back, s), (_back(assign, s - 1), s - 1))
        builder.add(Op.SEND_A, (Op.F, s), (first, s))
        if builder.add(Op.SEND_U, (Op.U, s), (Op.F, s), waits=False):
            builder.readers_wait_for_transfer(s)
    return tuple(builder.streams)


def _back(assign: Assign, stage: int) -> Op:
    return Op.B if (Op.B, stage) in assign else Op.I


class _Transfers:
    def __init__(
        self,
        edges: RuleEdges,
        streams: list[Stream],
        assign: Assign,
        exists: dict[Key, Callable[[int], bool]],
        updates: int,
    ) -> None:
        self.edges = edges
        self.streams = streams
        self.assign = assign
        self.exists = exists
        self.updates = updates
        self.copies: dict[tuple[int, int], int] = {}

    def device(self, key: Key, index: int) -> int:
        return self.streams[self.assign[key](index)].device

    def add(self, send: Op, source: Key, target: Key, waits: bool = True) -> bool:
        """The transfer from the source's device to the target's, wherever the two differ; False where they never do."""
        by_update, every = send.by_update, self.edges.every
        period = self.updates if by_update else self.updates * every

        def ends(index: int) -> tuple[int, int]:
            reader = index * every if by_update and not target[0].by_update else index
            return self.device(source, index), self.device(target, reader)

        routes = [ends(index) for index in range(period)]
        crossing = [a != b for a, b in routes]
        if not any(crossing):
            return False
        numbers = [self._copy(route, send) if route[0] != route[1] else -1 for route in routes]
        key = (send, source[1])
        spare = next(number for number in numbers if number >= 0)
        self.assign[key] = lambda index: numbers[index % period] if numbers[index % period] >= 0 else spare
        self._note_existence(key, source, crossing)
        same, origin = (lambda i, n: i), Origin("transfer between devices")
        self.edges.families[key] = [EdgeFamily(*source, same, origin)]
        if waits:
            self.edges.add(target, key, same, origin)
        return True

    def _note_existence(self, key: Key, source: Key, crossing: list[bool]) -> None:
        whole = self.exists.get(source)
        if all(crossing) and whole is None:
            return
        period = len(crossing)
        self.exists[key] = lambda index: crossing[index % period] and (whole is None or whole(index))

    def _copy(self, route: tuple[int, int], send: Op) -> int:
        """The number of the copy stream of a route, made on first use."""
        if route not in self.copies:
            self.copies[route] = len(self.streams)
            name = f"copy[{route[0]}->{route[1]}]"
            self.streams.append(Stream(name, -1, 0, route[0], (), _ORDER, runs=TRANSFERS))
        return self.copies[route]

    def readers_wait_for_transfer(self, stage: int) -> None:
        """Who waits for an update in order to read its weights elsewhere waits for their transfer."""
        for (op, s), families in self.edges.families.items():
            if op.by_update:
                continue
            for family in [f for f in families if f.source is Op.U and f.stage == stage]:
                self.edges.add((op, s), (Op.SEND_U, stage), family.index, family.origin)

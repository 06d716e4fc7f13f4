"""Which actions of a recorded run touched the same memory at once, one of them writing: possible races of elements.

What is noted is when an action began and ended, not when it touched an element, so a race may be named that did not
happen; none that did happen is left out.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from asyncpipe.ir import Op, Program
from asyncpipe.runtime.record import Entry

__all__ = ["Race", "races", "reading"]

Memory = tuple[str | int, ...]


class Race(NamedTuple):
    """Positions in the list of entries: the one that read, or of two that wrote the later, and the other."""

    reader: int
    writer: int


def races(program: Program, entries: Sequence[Entry], buffers: Sequence[bool], draws: bool) -> list[Race]:
    """All pairs, by reader. `buffers`: which stages have buffers; `draws`: whether forwards draw random numbers."""
    by_memory: dict[Memory, list[tuple[int, bool]]] = {}
    touched = _Touched(program, buffers, draws)
    for position, entry in enumerate(entries):
        for memory, writes in touched.by(entry):
            by_memory.setdefault(memory, []).append((position, writes))
    return sorted({race for touches in by_memory.values() for race in _overlaps(entries, touches)})


def _overlaps(entries: Sequence[Entry], touches: Sequence[tuple[int, bool]]) -> Iterator[Race]:
    under_way: list[tuple[int, bool]] = []
    for position, writes in sorted(touches, key=lambda touch: entries[touch[0]].first):
        under_way = [(other, wrote) for other, wrote in under_way if entries[other].last > entries[position].first]
        for other, wrote in under_way:
            if writes and wrote:
                yield Race(max(position, other), min(position, other))
            elif writes or wrote:
                yield Race(other, position) if writes else Race(position, other)
        under_way.append((position, writes))


class _Touched:
    """The memory that an action touches, and whether it writes to it."""

    def __init__(self, program: Program, buffers: Sequence[bool], draws: bool) -> None:
        self.program = program
        self.buffers = buffers
        self.draws = draws
        self.reads = reading(program)

    def by(self, entry: Entry) -> Iterator[tuple[Memory, bool]]:
        replica, (stage, op, _) = entry.replica, entry.action
        if op is Op.U or op in self.reads:
            yield ("weights", replica, stage), op is Op.U
        if op is Op.F and self.buffers[stage]:
            yield ("buffers", replica, stage), True
        if op is Op.F and self.draws:
            yield ("random numbers",), True
        if op in (Op.B, Op.I) and self.program.aux == "synthetic":
            yield from ((("predictor", replica, s), s < stage) for s in (stage - 1, stage) if s in self.program.local)
        if op is Op.SYNC:
            yield from self._by_sync(entry)

    def _by_sync(self, entry: Entry) -> Iterator[tuple[Memory, bool]]:
        """An average reads each replica at its beginning, and writes all at the end of the last; a push any other."""
        kind, replicas = self.program.sync[0], range(self.program.replicas)
        own = ("weights", entry.replica, entry.action.stage)
        others = [("weights", replica, entry.action.stage) for replica in replicas if replica != entry.replica]
        if kind == "push":
            if entry.phase == "begin":
                yield own, False
                yield ("share", entry.replica, entry.action.stage), True
            else:
                yield from ((other, True) for other in others)
        elif kind in ("average", "outer"):
            if entry.phase == "begin":
                yield own, False
            elif entry.replica == replicas[-1]:
                yield from ((memory, True) for memory in (own, *others))


def reading(program: Program) -> frozenset[Op]:
    """The ops that read live weights, as far as one knows: a slot may hold a copy of its own."""
    forward, backward = program.forward_weights, program.backward_weights
    reads = {Op.F: not forward.startswith("lag"), Op.W: (forward, backward) == ("latest", "latest")}
    reads |= dict.fromkeys((Op.B, Op.I, Op.R), backward not in ("same", "private"))
    return frozenset(op for op, whether in reads.items() if whether)

"""L1: the lowered launches as a table per stream, each action with the version it reads in the planned timing."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from asyncpipe.ir import Action, Cell, Op, Table, TableStream
from asyncpipe.passes.diagram import Diagram
from asyncpipe.passes.lower_to_streams import Lowered, Waiting

__all__ = ["tabulate"]

_READERS = (Op.F, Op.B, Op.I, Op.R)
_LATE = 10_000


def tabulate(
    name: str,
    diagram: Diagram,
    lowered: Lowered,
    step: int,
    slots: tuple[int, ...],
    n: int | None,
    reads: Callable[[Action], int | None],
) -> Table:
    """The table; `reads` gives the version that an action with an absolute index reads, if that is to be told."""

    def absolute(waiting: Waiting) -> Cell:
        action = waiting.action
        return Cell(action, reads(action) if action.op in _READERS else None)

    # Late enough that no stash is of the warmup any more.
    start = lowered.start + _LATE * step

    def relative(waiting: Waiting) -> Cell:
        action = waiting.action.later(start, diagram.every)
        read = reads(action) if action.op in _READERS else None
        return Cell(waiting.action, None if read is None else read - start // diagram.every)

    def rows(launches: Iterable[Waiting], stream: int, cell: Callable[[Waiting], Cell]) -> tuple[Cell, ...]:
        return tuple(cell(waiting) for waiting in launches if waiting.stream == stream)

    streams = tuple(
        TableStream(
            stream.name,
            stream.device,
            rows(lowered.warmup, i, absolute),
            rows(lowered.body, i, relative),
            rows(lowered.cooldown, i, absolute),
        )
        for i, stream in enumerate(diagram.streams)
    )
    return Table(name, diagram.stages, diagram.every, lowered.start, step, lowered.iterations, n, slots, streams)

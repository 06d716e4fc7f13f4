"""The lags of a period by the order of its program, where several devices work on one stage.

The host counts versions while it captures, graph by graph; updates of one device and forwards of another are then not
in the order in which parameters cross.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from asyncpipe.ir import Instruction, Kind, Op, Program
from asyncpipe.runtime.cuda.execution import Numbers, Origin
from asyncpipe.runtime.execution import Lag

__all__ = ["planned_lags"]


def planned_lags(
    program: Program, lines: Sequence[Instruction], numbers: Numbers, origin: Origin
) -> Iterator[tuple[int, int, Lag]]:
    """(stage, microbatch, lag) of each update from `origin` on; for whole backwards with private weights."""
    versions = [sum(streams) for streams in numbers.versions]
    reads = [list(slots) for slots in numbers.reads]
    pending = [{m + origin.microbatch: one for m, one in found.items()} for found in numbers.pending]
    for kind, _, (stage, op, index) in lines:
        if kind is not Kind.LAUNCH:
            continue
        slot = index % program.slots[stage]
        if op is Op.F:
            reads[stage][slot] = versions[stage], 0
        elif op is Op.B:
            read, _ = reads[stage][slot]
            pending[stage][index] = read, versions[stage] - read
        elif op is Op.U:
            first = index * program.every
            for microbatch in range(first, first + program.every):
                read, between = pending[stage].pop(microbatch)
                yield stage, microbatch, Lag(versions[stage] - read, between)
            versions[stage] += 1

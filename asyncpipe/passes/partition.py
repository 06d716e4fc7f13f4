"""`update.scope`: workers that update, and back-propagate to, their own block of stages only (PASSM+, LPPSGD).

Worker c of P takes microbatch m where m % P == c; its block are the stages s with s * P // S == c.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from asyncpipe.errors import Report
from asyncpipe.ir import Op
from asyncpipe.passes.place_streams import Owner
from asyncpipe.schedule import Schedule

__all__ = ["Exists", "Partition", "partition_of"]

Exists = dict[tuple[Op, int], Callable[[int], bool]]


@dataclass(frozen=True)
class Partition:
    """Which actions exist, and the lowest stage that the backward of a microbatch reaches."""

    exists: Exists = field(default_factory=dict)
    lowest: Callable[[int], int] | None = None
    modulus: int = 1


def partition_of(schedule: Schedule, stages: int, owner: Owner, report: Report) -> Partition:
    """The partition that `update.scope` asks for; one in which everything exists for `all`."""
    scope = schedule.update.scope
    group = owner.get((Op.U, 0))
    if scope == "all" or group is None:
        return Partition()
    workers = group.count
    if workers > stages:
        message = f"`scope: {scope}` gives each of {workers} workers a block of its own, but there are {stages} stages"
        report.error("AP606", message, schedule.where("update"), "use at most as many workers as stages")
        return Partition()
    alternate = scope == "alternate"

    def whole(m: int) -> bool:
        return alternate and m // workers % 2 == 0

    def lowest(m: int) -> int:
        return 0 if whole(m) else -(-(m % workers) * stages // workers)

    exists: Exists = {}
    for stage in range(stages):
        for op in (Op.B, Op.I, Op.W, Op.R):
            if (op, stage) in owner:
                exists[op, stage] = _reached(stage, lowest)
        exists[Op.U, stage] = _updated(stage, stages, workers, whole)
    return Partition(exists, lowest, workers * (2 if alternate else 1))


def _reached(stage: int, lowest: Callable[[int], int]) -> Callable[[int], bool]:
    return lambda m: stage >= lowest(m)


def _updated(stage: int, stages: int, workers: int, whole: Callable[[int], bool]) -> Callable[[int], bool]:
    return lambda g: whole(g) or stage * workers // stages == g % workers

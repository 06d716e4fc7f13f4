"""`update.scope`: workers that update, and back-propagate to, their own block of stages only (PASSM+, LPPSGD)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial

from asyncpipe.errors import Report
from asyncpipe.ir import Blocks, Op
from asyncpipe.passes.place_streams import Owner
from asyncpipe.schedule import Schedule
from asyncpipe.tables.wording import counted

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
        there = f"there {'is' if stages == 1 else 'are'} {counted(stages, 'stage')}"
        message = f"`scope: {scope}` gives each of {workers} workers a block of its own, but {there}"
        report.error("AP606", message, schedule.where("update"), "use at most as many workers as stages")
        return Partition()
    blocks = Blocks(stages, workers, scope == "alternate")
    exists: Exists = {}
    for stage in range(stages):
        for op in (Op.B, Op.I, Op.W, Op.R):
            if (op, stage) in owner:
                exists[op, stage] = _reached(stage, blocks)
        exists[Op.U, stage] = partial(blocks.updates, stage)
    return Partition(exists, blocks.lowest, workers * (2 if blocks.alternate else 1))


def _reached(stage: int, blocks: Blocks) -> Callable[[int], bool]:
    return lambda m: stage >= blocks.lowest(m)

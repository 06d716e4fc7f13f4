"""Transfers between devices as actions: RECV just before what needs it, SEND just after what gives it."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from asyncpipe.errors import UsageError
from asyncpipe.tables.flat_table import RECV_B, RECV_F, SEND_B, SEND_F, B, F, FlatTable, I, Int64, W

__all__ = ["lower"]

_ABSENT = -1


def lower(table: FlatTable) -> FlatTable:
    """The table with its transfers. Runs to its end wherever `table` does, since a SEND does not wait for its receiver.

    UsageError where it is lowered already, or where a stage is out of range, absent, or on two devices.
    """
    if table.lowered:
        raise UsageError("this table has its transfers already", "lower a table of F, B, I and W")
    around = _around(_place(table), table.stages)[table.op.astype(np.intp) * table.stages + table.stage]
    kept = around != _ABSENT
    counts = kept.view(np.int8).sum(axis=1, dtype=np.int8)
    before = np.zeros(len(table) + 1, np.int64)
    np.cumsum(counts, out=before[1:])
    return FlatTable(
        around.ravel()[kept.ravel()],
        np.repeat(table.stage, counts),
        np.repeat(table.microbatch, counts),
        before[table.offsets],
        table.stages,
        table.microbatches,
        lowered=True,
    )


def _around(place: Int64, stages: int) -> NDArray[np.int8]:
    """Per op and stage: the RECV before it, itself, the SEND after it."""
    apart = place[1:] != place[:-1]
    above, below = np.append(apart, False), np.append(False, apart)
    around = np.full((4, stages, 3), _ABSENT, np.int8)
    around[:, :, 1] = np.arange(4)[:, None]
    around[F, below, 0], around[F, above, 2] = RECV_F, SEND_F
    for backward in (B, I):
        around[backward, above, 0], around[backward, below, 2] = RECV_B, SEND_B
    return around.reshape(-1, 3)


def _place(table: FlatTable) -> Int64:
    """The device of each stage."""
    if table.stage.min(initial=0) < 0 or table.stage.max(initial=0) >= max(1, table.stages):
        raise UsageError(f"a stage is out of range: they are 0 to {table.stages - 1}", "verify the table first")
    if table.op.min(initial=0) < 0 or table.op.max(initial=0) > W:
        raise UsageError("expected the operations F, B, I and W only", "transfers are what `lower` adds")
    bounds = pairwise(table.offsets.tolist())
    has = [np.bincount(table.stage[a:b], minlength=table.stages) > 0 for a, b in bounds]
    present = np.array(has, bool).reshape(-1, table.stages)
    wrong = np.flatnonzero(present.sum(axis=0) != 1)
    if len(wrong):
        devices = np.flatnonzero(present[:, wrong[0]]).tolist()
        where = f"on the devices {', '.join(map(str, devices))}" if devices else "on no device"
        raise UsageError(f"stage {wrong[0]} is {where}, expected one", "verify the table first")
    return np.asarray(present.argmax(axis=0), np.int64)

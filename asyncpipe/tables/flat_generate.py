"""Published orders written out as a flat table, all positions at once from closed forms.

Sources: GPipe (arXiv 1811.06965); 1F1B and its interleaved form (arXiv 2104.04473); ZB-H1 (arXiv 2401.10241).
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from asyncpipe.errors import did_you_mean
from asyncpipe.tables.flat_table import B, F, FlatTable, I, Int64, W
from asyncpipe.tables.generate import TableError
from asyncpipe.tables.wording import counted

__all__ = ["FLAT_NAMES", "generate"]

_Ahead = Callable[[int, int, int], int]
"""Forwards before the first backward, from the devices behind, stages of a device, and microbatches of a round."""

_MANY = 1 << 40
_AHEAD: dict[str, _Ahead] = {
    "gpipe": lambda behind, local, size: _MANY,
    "1f1b": lambda behind, local, size: behind,
    "interleaved-1f1b": lambda behind, local, size: (local - 1) * size + (2 * behind if local > 1 else behind),
    "zb-h1": lambda behind, local, size: (local - 1) * size + behind,
}
FLAT_NAMES = tuple(_AHEAD)


def generate(name: str, devices: int, stages: int, microbatches: int) -> FlatTable:
    """The order `name` for one update of `microbatches` microbatches; stage s is on device s % devices, no transfers.

    The same as `tables.rows`, as arrays. TableError for an unknown name or a size that the order is not defined for.
    """
    _check(name, devices, stages, microbatches)
    local = stages // devices
    size = microbatches // max(1, microbatches // devices)
    step = np.arange(local * microbatches)
    turn = step // size % local
    microbatch = step // (size * local) * size + step % size
    forward, backward = turn * devices, (local - 1 - turn) * devices
    split = name == "zb-h1"
    length = len(step) * (3 if split else 2)
    op = np.empty((devices, length), np.int8)
    stage = np.empty((devices, length), np.int32)
    index = np.empty((devices, length), np.int32)
    for device in range(devices):
        ahead = min(_AHEAD[name](devices - 1 - device, local, size), len(step))
        for code, places in _places(step, ahead, device if split else None).items():
            op[device, places] = code
            stage[device, places] = (forward if code == F else backward) + device
            index[device, places] = microbatch
    offsets = np.arange(devices + 1) * length
    return FlatTable(op.ravel(), stage.ravel(), index.ravel(), offsets, stages, microbatches)


def _places(step: Int64, ahead: int, deferred: int | None) -> dict[int, Int64]:
    """Per op the position of its k-th action: `ahead` forwards, then in turns; W follows `deferred` backwards later."""
    total = len(step)
    backwards = np.minimum(step + ahead + 1, total) + step
    forwards = step + np.maximum(step - ahead, 0)
    if deferred is None:
        return {F: forwards, B: backwards}
    weights = np.minimum(step + ahead + deferred + 1, total) + np.minimum(step + deferred + 1, total) + step
    return {
        F: forwards + np.maximum(step - ahead - deferred, 0),
        I: backwards + np.maximum(step - deferred, 0),
        W: weights,
    }


def _check(name: str, devices: int, stages: int, microbatches: int) -> None:
    if name not in _AHEAD:
        raise TableError(f"no flat table is called {name!r}", did_you_mean(name, FLAT_NAMES))
    if min(devices, stages, microbatches) < 1:
        last = counted(microbatches, "microbatch", "microbatches")
        counts = f"{counted(devices, 'device')}, {counted(stages, 'stage')} and {last}"
        raise TableError(f"{name} cannot order {counts}", "each of the three must be at least 1")
    if stages % devices or (name in ("gpipe", "1f1b") and stages != devices):
        wanted = "a multiple of the devices" if name in ("interleaved-1f1b", "zb-h1") else "as many as devices"
        message = f"{name} on {counted(devices, 'device')}: stages must be {wanted}, not {stages}"
        raise TableError(message, f"try {counted(devices, 'stage')}")
    rounds = max(1, microbatches // devices)
    if microbatches % rounds and name in ("interleaved-1f1b", "zb-h1"):
        message = f"{name} runs {microbatches} microbatches in {rounds} rounds of one size, one for each {devices}"
        raise TableError(message, f"use {microbatches - microbatches % devices} microbatches")

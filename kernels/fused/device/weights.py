"""The weights of one block: read, changed, stored, and all that follows them."""

from __future__ import annotations

import triton
import triton.language as tl

from asyncpipe.kernels.fused.device.memory import load, store
from asyncpipe.kernels.fused.device.rounding import round_stochastically
from asyncpipe.kernels.fused.scalars import DRIFT_DECAY, DRIFT_HORIZON, HORIZON, WEIGHT_DECAY

__all__ = ["load_weights", "store_followers", "store_weights", "weight_coefficients"]


@triton.jit
def weight_coefficients(scalars, rate, COMPUTE: tl.constexpr):
    """(lr, coupled decay, decoupled decay, what it keeps, lr * horizon, drift decay, its rest, drift horizon)."""
    decay = tl.load(scalars + WEIGHT_DECAY)
    drift_decay = tl.load(scalars + DRIFT_DECAY)
    return (
        rate.to(COMPUTE),
        decay.to(COMPUTE),
        (rate * decay).to(COMPUTE),
        (1.0 - rate * decay).to(COMPUTE),
        (rate * tl.load(scalars + HORIZON)).to(COMPUTE),
        drift_decay.to(COMPUTE),
        (1.0 - drift_decay).to(COMPUTE),
        tl.load(scalars + DRIFT_HORIZON).to(COMPUTE),
    )


@triton.jit
def load_weights(buffers, at, mask, COMPUTE: tl.constexpr, MASKED: tl.constexpr):
    """The values to update: the stream's own, else the master copy, else the weights.

    A master copy counts while the weights are its rounded copy; otherwise somebody else wrote them since.
    """
    if buffers.private is not None:
        return load(buffers.private, at, mask, MASKED).to(COMPUTE)
    if buffers.master is not None:
        master = load(buffers.master, at, mask, MASKED)
        w = load(buffers.weights, at, mask, MASKED)
        return tl.where(master.to(w.dtype) == w, master, w.to(tl.float32)).to(COMPUTE)
    return load(buffers.weights, at, mask, MASKED).to(COMPUTE)


@triton.jit
def store_weights(
    buffers,
    at,
    w,
    direction,
    numbers,
    seed,
    start,
    mask,
    OPTIONS: tl.constexpr,
    BLOCK: tl.constexpr,
    MASKED: tl.constexpr,
):
    """Write the new weights, and the master copy where there is one; returns them, in the dtype of `w`."""
    change = numbers[0] * direction
    if OPTIONS.atomic:
        new = _add_atomically(buffers, at, w, change, numbers[2], mask, OPTIONS, MASKED)
        if buffers.master is not None:
            store(buffers.weights, at, new, mask, MASKED)
        return new
    new = w - change
    if OPTIONS.decay == "decoupled":
        new = w * numbers[3] - change
    if OPTIONS.rounding == "stochastic":
        new = round_stochastically(new, seed, start, BLOCK)
    if buffers.master is not None:
        store(buffers.master, at, new, mask, MASKED)
    store(buffers.weights, at, new, mask, MASKED)
    if buffers.master is not None:
        return new
    # What was stored, which may be less precise.
    return new.to(buffers.weights.dtype.element_ty).to(w.dtype)


@triton.jit
def _add_atomically(buffers, at, w, change, decay, mask, OPTIONS: tl.constexpr, MASKED: tl.constexpr):
    change = -change
    if OPTIONS.decay == "decoupled":
        change = change - decay * w
    pointer = buffers.weights
    if buffers.master is not None:
        pointer = buffers.master
    # Where nobody uses the old values the compiler makes a reduction of it, which returns nothing.
    if MASKED:
        old = tl.atomic_add(pointer + at, change, mask=mask, sem="relaxed")
    else:
        old = tl.atomic_add(pointer + at, change, sem="relaxed")
    return old + change


@triton.jit
def store_followers(buffers, at, w, new, velocity, numbers, mask, MASKED: tl.constexpr):
    """Everything that follows the weights, in the same pass."""
    if buffers.private is not None:
        store(buffers.private, at, new, mask, MASKED)
    if buffers.peer is not None:
        store(buffers.peer, at, new, mask, MASKED)
    if buffers.ahead is not None:
        store(buffers.ahead, at, new - numbers[4] * velocity, mask, MASKED)
    if buffers.drift is not None:
        drift = load(buffers.drift, at, mask, MASKED).to(w.dtype)
        drift = numbers[5] * drift + numbers[6] * (new - w)
        store(buffers.drift, at, drift, mask, MASKED)
        if buffers.corrected is not None:
            store(buffers.corrected, at, new - numbers[7] * drift, mask, MASKED)

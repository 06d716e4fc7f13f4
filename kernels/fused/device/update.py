"""The update of one stage: one pass over its arena. Load, math, store."""

from __future__ import annotations

import triton
import triton.language as tl

from asyncpipe.kernels.fused.device.finish import count_update, is_last_program
from asyncpipe.kernels.fused.device.transforms import learning_rate, load_gradient, transform_coefficients
from asyncpipe.kernels.fused.device.walk import walk
from asyncpipe.kernels.fused.device.weights import load_weights, store_followers, store_weights, weight_coefficients

__all__ = ["update_kernel"]


@triton.jit(do_not_specialize=["n"])
def update_kernel(
    buffers,
    states,
    gradients,
    counters,
    scalars,
    n,
    COEFFICIENTS: tl.constexpr,
    RULE: tl.constexpr,
    OPTIONS: tl.constexpr,
    COMPUTE: tl.constexpr,
    GRADIENT: tl.constexpr,
    MICROBATCHES: tl.constexpr,
    HISTOGRAM: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """One update with rule RULE, whose factors COEFFICIENTS computes. n: as `walk` counts it."""
    step = tl.load(counters.step)
    rate = learning_rate(scalars, counters.version, counters.reads, MICROBATCHES, OPTIONS)
    seed = step
    if counters.seed is not None:
        # Each update draws from a key of its own: the seed above, the step below.
        seed = (tl.load(counters.seed) << 32) | (step & 0xFFFFFFFF)
    transforms = transform_coefficients(scalars, counters.norm, COMPUTE)
    factors = COEFFICIENTS(scalars, step, counters.product, OPTIONS, COMPUTE)
    numbers = weight_coefficients(scalars, rate, COMPUTE)
    arguments = (buffers, states, transforms, factors, numbers, seed)
    walk(update_block, arguments, gradients, n, tl.full((), 0.0, tl.float64), RULE, OPTIONS, GRADIENT, BLOCK)
    if is_last_program(counters.ticket):
        count_update(counters, scalars, MICROBATCHES, HISTOGRAM)


@triton.jit
def update_block(
    arguments,
    gradient,
    start,
    within,
    length,
    RULE: tl.constexpr,
    OPTIONS: tl.constexpr,
    BLOCK: tl.constexpr,
    MASKED: tl.constexpr,
):
    buffers, states, transforms, factors, numbers, seed = arguments
    lane = tl.arange(0, BLOCK)
    at = start + lane
    mask = lane < length
    w = load_weights(buffers, at, mask, numbers[0].dtype, MASKED)
    g = load_gradient(
        gradient, within + lane, w, buffers.read, at, mask, transforms, OPTIONS, len(OPTIONS.transforms), MASKED
    )
    if OPTIONS.decay == "coupled":
        g = g + numbers[1] * w
    direction, velocity = RULE(states, at, mask, g, w, factors, OPTIONS, MASKED)
    new = store_weights(buffers, at, w, direction, numbers, seed, start, mask, OPTIONS, BLOCK, MASKED)
    store_followers(buffers, at, w, new, velocity, numbers, mask, MASKED)
    return 0.0

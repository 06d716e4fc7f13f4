"""The squared norm of a stage's gradient: the first of the two launches of `clip_norm`."""

from __future__ import annotations

import triton
import triton.language as tl

from asyncpipe.kernels.fused.device.finish import is_last_program
from asyncpipe.kernels.fused.device.transforms import load_gradient, transform_coefficients
from asyncpipe.kernels.fused.device.walk import walk
from asyncpipe.kernels.fused.device.weights import load_weights

__all__ = ["norm_kernel"]


@triton.jit(do_not_specialize=["n"])
def norm_kernel(
    buffers,
    gradients,
    norm,
    partials,
    ticket,
    scalars,
    n,
    COUNT: tl.constexpr,
    OPTIONS: tl.constexpr,
    COMPUTE: tl.constexpr,
    GRADIENT: tl.constexpr,
    PROGRAMS: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """norm <- the sum of squares of the gradient after its first COUNT transforms.

    `partials`: float64 (PROGRAMS), PROGRAMS a power of two and at least the number of programs. The order of the sum
    depends on the number of programs alone, so that equal launches give equal bits.
    """
    coefficients = transform_coefficients(scalars, None, COMPUTE)
    # A sum for each lane, added up once: a reduction in every block would hold its next loads up.
    lanes = tl.zeros([BLOCK], tl.float64)
    lanes = walk(_square_block, (buffers, coefficients), gradients, n, lanes, COUNT, OPTIONS, GRADIENT, BLOCK)
    tl.store(partials + tl.program_id(0), tl.sum(lanes))
    if is_last_program(ticket):
        at = tl.arange(0, PROGRAMS)
        # Past the first-level cache, which may hold what an earlier launch left there.
        parts = tl.load(partials + at, mask=at < tl.num_programs(0), other=0.0, cache_modifier=".cg")
        tl.store(norm, tl.sum(parts))


@triton.jit
def _square_block(
    arguments,
    gradient,
    start,
    within,
    length,
    COUNT: tl.constexpr,
    OPTIONS: tl.constexpr,
    BLOCK: tl.constexpr,
    MASKED: tl.constexpr,
):
    buffers, coefficients = arguments
    lane = tl.arange(0, BLOCK)
    mask = lane < length
    w = coefficients[0]
    if buffers.read is not None:
        w = load_weights(buffers, start + lane, mask, w.dtype, MASKED)
    g = load_gradient(
        gradient, within + lane, w, buffers.read, start + lane, mask, coefficients, OPTIONS, COUNT, MASKED
    )
    return (g * g).to(tl.float64)

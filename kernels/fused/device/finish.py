"""The end of a launch: the last program to finish changes the counters, once, after every store of the others."""

from __future__ import annotations

import triton
import triton.language as tl

from asyncpipe.kernels.fused.device.rules import nadam_momentum

__all__ = ["count_update", "is_last_program"]


@triton.jit
def is_last_program(ticket):
    """Draw a ticket; true for one program, which then sees what all the others stored. Leaves the ticket at 0."""
    # The stores of this program's other threads come before its ticket, and the release carries them all.
    tl.debug_barrier()
    last = tl.atomic_add(ticket, 1, sem="acq_rel") == tl.num_programs(0) - 1
    if last:
        tl.store(ticket, 0)
    return last


@triton.jit
def count_update(counters, scalars, MICROBATCHES: tl.constexpr, HISTOGRAM: tl.constexpr):
    """Atomic where several streams may update the same weights; readers see a version only with all its weights."""
    step = tl.atomic_add(counters.step, 1, sem="relaxed")
    if counters.product is not None:
        tl.store(counters.product, tl.load(counters.product) * nadam_momentum(scalars, step + 1))
    if counters.version is not None:
        before = tl.atomic_add(counters.version, 1, sem="release")
        if counters.histogram is not None:
            for i in tl.static_range(MICROBATCHES):
                staleness = tl.minimum(before - tl.load(counters.reads + i), HISTOGRAM - 1)
                tl.atomic_add(counters.histogram + tl.maximum(staleness, 0), 1, sem="relaxed")

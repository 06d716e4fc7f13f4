"""Small kernels that tell when and where they run."""

from __future__ import annotations

import triton
import triton.language as tl
from triton.language.extra.cuda import globaltimer, smid

__all__ = ["mark_places", "stamp"]


@triton.jit
def stamp(times, at):
    """times[at] <- nanoseconds of the device's clock."""
    tl.store(times + at, globaltimer())


@triton.jit
def mark_places(places, data, ROUNDS: tl.constexpr):
    """places[program] <- its multiprocessor; first some work, so that programs spread over all there are."""
    program = tl.program_id(0)
    lane = tl.arange(0, 1024)
    total = tl.zeros([1024], tl.float32)
    for i in range(ROUNDS):
        total += tl.load(data + ((program + i) % 64) * 1024 + lane)
    tl.store(data + 64 * 1024 + lane, total)
    tl.store(places + program, smid())

"""A kernel of one warp that writes down when and where it ran.

`%globaltimer` counts nanoseconds, one count for all streams of a GPU; how fine its steps are depends on the GPU (PTX
ISA, special registers). `%smid` is the multiprocessor.
"""

from __future__ import annotations

import triton
import triton.language as tl
from triton.language.extra.cuda import globaltimer, smid

__all__ = ["stamp_kernel"]


@triton.jit(do_not_specialize=["slot", "width", "depth"])
def stamp_kernel(rows, launch, slot, width, depth):
    """rows[launch % depth, slot] <- (launch, nanoseconds, multiprocessor); rows: int64 (depth, width, 3).

    depth: a power of two, since a division of 64 bits would be most of the kernel.
    """
    now = globaltimer()
    number = tl.load(launch)
    row = rows + ((number & (depth - 1)) * width + slot) * 3
    tl.store(row, number)
    tl.store(row + 1, now)
    tl.store(row + 2, smid().to(tl.int64))

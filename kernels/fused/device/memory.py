"""Loads and stores of one block. A whole block needs no mask, which is what keeps its accesses 16 bytes wide."""

from __future__ import annotations

import triton
import triton.language as tl

__all__ = ["load", "store"]


@triton.jit
def load(pointer, at, mask, MASKED: tl.constexpr):
    """Elements `at`; what the mask leaves out is 0."""
    if MASKED:
        return tl.load(pointer + at, mask=mask, other=0)
    return tl.load(pointer + at)


@triton.jit
def store(pointer, at, value, mask, MASKED: tl.constexpr):
    """Rounds to the nearest value of the pointer's dtype, ties to even."""
    rounded = value.to(pointer.dtype.element_ty)
    if MASKED:
        tl.store(pointer + at, rounded, mask=mask)
    else:
        tl.store(pointer + at, rounded)

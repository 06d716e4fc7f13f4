"""How the programs of a launch divide an arena among themselves."""

from __future__ import annotations

import triton
import triton.language as tl

__all__ = ["walk"]


@triton.jit
def walk(
    BODY: tl.constexpr,
    arguments,
    gradients,
    n,
    total,
    RULE: tl.constexpr,
    OPTIONS: tl.constexpr,
    GRADIENT: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """Calls `BODY(arguments, gradient, start, within, length, RULE, OPTIONS, BLOCK, MASKED)` for each block.

    A block has `length` elements, from `start` in the arena and from `within` in its gradient; only shorter ones than
    BLOCK are masked. Returns `total`, float64, plus what the calls return. n: elements of a flat gradient, else rows.
    """
    program = tl.program_id(0).to(tl.int64)
    programs = tl.num_programs(0)
    if gradients.flat is not None:
        whole = n // BLOCK
        block = program
        # `while`, because the interpreter of Triton 3.6 cannot make a range of tensors with numpy 2.4.
        while block < whole:
            start = block * BLOCK
            total += BODY(arguments, gradients.flat, start, start, BLOCK, RULE, OPTIONS, BLOCK, False)
            block += programs
        start = tl.cast(whole, tl.int64) * BLOCK
        if (start < n) & (program == whole % programs):
            total += BODY(arguments, gradients.flat, start, start, n - start, RULE, OPTIONS, BLOCK, True)
    else:
        row = program
        while row < n:
            total = _walk_row(BODY, arguments, gradients, row, total, RULE, OPTIONS, GRADIENT, BLOCK)
            row += programs
    return total


@triton.jit
def _walk_row(
    BODY: tl.constexpr,
    arguments,
    gradients,
    row,
    total,
    RULE: tl.constexpr,
    OPTIONS: tl.constexpr,
    GRADIENT: tl.constexpr,
    BLOCK: tl.constexpr,
):
    tensor = tl.load(gradients.blocks + row * 4)
    # The launcher has made sure of the alignment; without these hints the accesses would be one element wide.
    start = tl.multiple_of(tl.load(gradients.blocks + row * 4 + 1), 16)
    within = tl.multiple_of(tl.load(gradients.blocks + row * 4 + 2), 16)
    length = tl.load(gradients.blocks + row * 4 + 3)
    address = tl.load(gradients.addresses + tensor)
    if address != 0:
        gradient = tl.multiple_of(address.to(tl.pointer_type(GRADIENT)), 16)
        if length == BLOCK:
            total += BODY(arguments, gradient, start, within, length, RULE, OPTIONS, BLOCK, False)
        else:
            total += BODY(arguments, gradient, start, within, length, RULE, OPTIONS, BLOCK, True)
    return total

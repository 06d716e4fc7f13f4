"""Stochastic rounding to bfloat16: unbiased, so that updates below half a unit in the last place are not lost.

`kernels/rounding.py` has it in plain torch, from other random numbers.
"""

from __future__ import annotations

import triton
import triton.language as tl

__all__ = ["round_stochastically"]


@triton.jit
def round_stochastically(value, seed, start, BLOCK: tl.constexpr):
    """float32 values as float32 values that bfloat16 can hold, up with the probability of the remainder.

    `start` is the index of the first element, a multiple of 8. Infinities and NaN stay. Adding 16 random bits below
    the kept ones carries into them with exactly that probability.
    """
    bits = value.to(tl.uint32, bitcast=True)
    rounded = (bits + _random_16_bits(seed, start, BLOCK)) & 0xFFFF0000
    finite = (bits & 0x7F800000) != 0x7F800000
    return tl.where(finite, rounded.to(tl.float32, bitcast=True), value)


@triton.jit
def _random_16_bits(seed, start, BLOCK: tl.constexpr):
    """One Philox call gives 128 bits: enough for eight elements, at an eighth of the instructions."""
    calls = start // 8 + tl.arange(0, BLOCK // 8)
    a, b, c, d = tl.randint4x(seed, calls)
    words = tl.join(tl.join(a, b), tl.join(c, d)).to(tl.uint32, bitcast=True)
    return tl.reshape(tl.join(words & 0xFFFF, words >> 16), [BLOCK])

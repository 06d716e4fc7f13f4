"""Transforms of the gradient, fused into the pass that reads it; `kernels/transforms.py` has them in plain torch."""

from __future__ import annotations

import triton
import triton.language as tl

from asyncpipe.kernels.fused.device.memory import load
from asyncpipe.kernels.fused.scalars import (
    CLIP_NORM,
    DELAY_COMPENSATION,
    LR,
    SCALE,
    SHRINK,
    STALENESS,
    STALENESS_POWER,
)

__all__ = ["learning_rate", "load_gradient", "measure_staleness", "transform_coefficients"]


@triton.jit
def transform_coefficients(scalars, norm, COMPUTE: tl.constexpr):
    """(scale, shrink, delay compensation, factor of the clip), computed once for each program."""
    clip = tl.load(scalars + CLIP_NORM)
    if norm is not None:
        # The comparison is this way round so that the clip of a NaN norm is NaN, as torch.clamp's is.
        clip = clip / (tl.sqrt(tl.load(norm)) + 1e-6)
        clip = tl.where(clip >= 1, 1.0, clip)
    return (
        tl.load(scalars + SCALE).to(COMPUTE),
        tl.load(scalars + SHRINK).to(COMPUTE),
        tl.load(scalars + DELAY_COMPENSATION).to(COMPUTE),
        clip.to(COMPUTE),
    )


@triton.jit
def load_gradient(
    gradient,
    at_gradient,
    weights,
    read,
    at,
    mask,
    coefficients,
    OPTIONS: tl.constexpr,
    COUNT: tl.constexpr,
    MASKED: tl.constexpr,
):
    """One block of the gradient after the first COUNT transforms, in the dtype of `weights`."""
    scale, shrink, compensation, clip = coefficients
    g = load(gradient, at_gradient, mask, MASKED).to(weights.dtype) * scale
    if OPTIONS.maximize:
        g = -g
    for i in tl.static_range(COUNT):
        if OPTIONS.transforms[i] == "shrink":
            g = g * shrink
        elif OPTIONS.transforms[i] == "clip_norm":
            g = g * clip
        else:
            tl.static_assert(OPTIONS.transforms[i] == "delay_compensation")
            moved = weights - load(read, at, mask, MASKED).to(weights.dtype)
            g = g + compensation * g * g * moved
    return g


@triton.jit
def learning_rate(scalars, version, reads, MICROBATCHES: tl.constexpr, OPTIONS: tl.constexpr):
    """lr, float64; with `lr_over_staleness` over max(1, staleness) ** power (PipeMare T1, arXiv 1910.05124)."""
    lr = tl.load(scalars + LR)
    if OPTIONS.lr_over_staleness:
        if reads is not None:
            staleness = measure_staleness(version, reads, MICROBATCHES)
        else:
            staleness = tl.load(scalars + STALENESS)
        power = tl.load(scalars + STALENESS_POWER)
        lr = lr * tl.exp(-power * tl.log(tl.maximum(staleness, 1.0)))
    return lr


@triton.jit
def measure_staleness(version, reads, MICROBATCHES: tl.constexpr):
    """The version now, minus the mean of the versions that the forwards of this update found; float64."""
    total = tl.load(version) * MICROBATCHES
    for i in tl.static_range(MICROBATCHES):
        total -= tl.load(reads + i)
    return total.to(tl.float64) / MICROBATCHES

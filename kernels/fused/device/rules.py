"""The rules of the optimizers: each loads its state, computes, stores its state.

A rule is two functions. `coefficients(scalars, step, product, OPTIONS, COMPUTE)` runs once in each program, in float64;
`step` counts from 0. `math(states, at, mask, g, w, coefficients, OPTIONS, MASKED)` runs for each block and returns the
direction d of w <- w - lr * d, and the direction along which weights are predicted (the velocity of sgd).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

import triton
import triton.language as tl

from asyncpipe.kernels.fused.device.memory import load, store
from asyncpipe.kernels.fused.options import FLAGS
from asyncpipe.kernels.fused.scalars import BETA1, BETA2, DAMPENING, EPS, MOMENTUM_DECAY, STALENESS

__all__ = ["RULES", "Rule", "nadam_momentum"]


@triton.jit
def sgd_coefficients(scalars, step, product, OPTIONS: tl.constexpr, COMPUTE: tl.constexpr):
    momentum = tl.load(scalars + BETA1)
    undampened = 1.0 - tl.load(scalars + DAMPENING)
    delayed = momentum
    if OPTIONS.spike:
        delayed = _power(momentum, tl.load(scalars + STALENESS))
    missed = (1.0 - delayed) / (1.0 - momentum)
    return step == 0, momentum.to(COMPUTE), undampened.to(COMPUTE), delayed.to(COMPUTE), missed.to(COMPUTE)


@triton.jit
def sgd(states, at, mask, g, w, coefficients, OPTIONS: tl.constexpr, MASKED: tl.constexpr):
    """torch.optim.SGD (Sutskever et al., ICML 2013); spike compensation of Kosson et al., arXiv 2003.11666."""
    # Both branches return: Triton would compile what follows a return, for states that are not there.
    if OPTIONS.momentum:
        return _sgd_with_momentum(states, at, mask, g, coefficients, OPTIONS, MASKED)
    else:
        return g, g


@triton.jit
def _sgd_with_momentum(states, at, mask, g, coefficients, OPTIONS: tl.constexpr, MASKED: tl.constexpr):
    first, momentum, undampened, delayed, missed = coefficients
    v = load(states.first, at, mask, MASKED).to(g.dtype)
    # The first direction is taken whole, and what the buffer holds before it is never used.
    v = tl.where(first, g, momentum * v + undampened * g)
    store(states.first, at, v, mask, MASKED)
    if OPTIONS.nesterov:
        return g + momentum * v, v
    elif OPTIONS.spike:
        return delayed * v + missed * g, v
    else:
        return v, v


@triton.jit
def adam_coefficients(scalars, step, product, OPTIONS: tl.constexpr, COMPUTE: tl.constexpr):
    beta1 = tl.load(scalars + BETA1)
    beta2 = tl.load(scalars + BETA2)
    correction1 = 1.0 - _power(beta1, step + 1)
    correction2 = tl.sqrt(1.0 - _power(beta2, step + 1))
    eps = tl.load(scalars + EPS)
    return (
        (1.0 - beta1).to(COMPUTE),
        beta2.to(COMPUTE),
        (1.0 - beta2).to(COMPUTE),
        (1.0 / correction1).to(COMPUTE),
        correction2.to(COMPUTE),
        eps.to(COMPUTE),
    )


@triton.jit
def adam(states, at, mask, g, w, coefficients, OPTIONS: tl.constexpr, MASKED: tl.constexpr):
    """torch.optim.Adam and AdamW (arXiv 1412.6980, 1711.05101); `decay` of the options tells them apart."""
    weight1, beta2, weight2, correction1, correction2, eps = coefficients
    m, v = _moments(states, at, mask, g, weight1, beta2, weight2, MASKED)
    if OPTIONS.amsgrad:
        largest = load(states.largest, at, mask, MASKED).to(g.dtype)
        # Written so that a NaN on either side stays, as torch.maximum keeps it.
        v = tl.where((largest >= v) | (largest != largest), largest, v)
        store(states.largest, at, v, mask, MASKED)
    denominator = _divide(_root(v), correction2) + eps
    direction = correction1 * _divide(m, denominator)
    return direction, direction


@triton.jit
def nadam_coefficients(scalars, step, product, OPTIONS: tl.constexpr, COMPUTE: tl.constexpr):
    beta1 = tl.load(scalars + BETA1)
    beta2 = tl.load(scalars + BETA2)
    now = nadam_momentum(scalars, step + 1)
    following = nadam_momentum(scalars, step + 2)
    so_far = tl.load(product) * now
    eps = tl.load(scalars + EPS)
    return (
        (1.0 - beta1).to(COMPUTE),
        beta2.to(COMPUTE),
        (1.0 - beta2).to(COMPUTE),
        (1.0 - _power(beta2, step + 1)).to(COMPUTE),
        ((1.0 - now) / (1.0 - so_far)).to(COMPUTE),
        (following / (1.0 - so_far * following)).to(COMPUTE),
        eps.to(COMPUTE),
    )


@triton.jit
def nadam(states, at, mask, g, w, coefficients, OPTIONS: tl.constexpr, MASKED: tl.constexpr):
    """torch.optim.NAdam (Dozat, ICLR 2016 workshop)."""
    weight1, beta2, weight2, correction2, by_gradient, by_moment, eps = coefficients
    m, v = _moments(states, at, mask, g, weight1, beta2, weight2, MASKED)
    denominator = _root(_divide(v, correction2)) + eps
    direction = _divide(by_gradient * g, denominator) + _divide(by_moment * m, denominator)
    return direction, direction


@triton.jit
def nadam_momentum(scalars, step):
    """mu of update `step`, which counts from 1: beta1 * (1 - 0.96 ** (step * momentum_decay) / 2), in float64."""
    exponent = step.to(tl.float64) * tl.load(scalars + MOMENTUM_DECAY)
    # log(0.96); a call of log would cost a function for a constant.
    return tl.load(scalars + BETA1) * (1.0 - 0.5 * tl.exp(exponent * -0.04082199452025517))


@triton.jit
def lion_coefficients(scalars, step, product, OPTIONS: tl.constexpr, COMPUTE: tl.constexpr):
    beta1 = tl.load(scalars + BETA1)
    beta2 = tl.load(scalars + BETA2)
    return beta1.to(COMPUTE), (1.0 - beta1).to(COMPUTE), beta2.to(COMPUTE), (1.0 - beta2).to(COMPUTE)


@triton.jit
def lion(states, at, mask, g, w, coefficients, OPTIONS: tl.constexpr, MASKED: tl.constexpr):
    """Lion (arXiv 2302.06675, algorithm 2)."""
    beta1, weight1, beta2, weight2 = coefficients
    m = load(states.first, at, mask, MASKED).to(g.dtype)
    blend = beta1 * m + weight1 * g
    store(states.first, at, beta2 * m + weight2 * g, mask, MASKED)
    sign = (blend > 0).to(g.dtype) - (blend < 0).to(g.dtype)
    # A NaN must reach the weights, as in kernels/lion.py.
    direction = tl.where(blend != blend, blend, sign)
    return direction, direction


@triton.jit
def _moments(states, at, mask, g, weight1, beta2, weight2, MASKED: tl.constexpr):
    m = _lerp(load(states.first, at, mask, MASKED).to(g.dtype), g, weight1)
    v = beta2 * load(states.second, at, mask, MASKED).to(g.dtype) + weight2 * g * g
    store(states.first, at, m, mask, MASKED)
    store(states.second, at, v, mask, MASKED)
    return m, v


@triton.jit
def _lerp(start, end, weight):
    """torch.lerp: from whichever end is nearer, so that a weight of 1 gives `end` itself."""
    difference = end - start
    return tl.where(weight < 0.5, start + weight * difference, end - difference * (1 - weight))


@triton.jit
def _power(base, exponent):
    """base ** exponent in float64, for a base in [0, 1)."""
    return tl.where(exponent == 0, 1.0, tl.exp(exponent * tl.log(base)))


@triton.jit
def _divide(x, y):
    # `/` on float32 is an approximation within 2 ulp; this one is IEEE's, as in torch.
    return tl.div_rn(x, y) if x.dtype == tl.float32 else x / y


@triton.jit
def _root(x):
    return tl.sqrt_rn(x) if x.dtype == tl.float32 else tl.sqrt(x)


@dataclass(frozen=True)
class Rule:
    """Two functions of Triton, and the states that they keep, under torch.optim's names.

    states: in the order of `States`, each with the flag of `Options` without which it is not kept, or None.
    product: whether `Counters.product` is used.
    flags: those of `options.FLAGS` that it knows; others are refused.
    """

    coefficients: Any
    math: Any
    states: Mapping[str, str | None]
    product: bool = False
    flags: Collection[str] = FLAGS


RULES: Mapping[str, Rule] = {
    "sgd": Rule(sgd_coefficients, sgd, {"momentum_buffer": "momentum"}, flags=("momentum", "nesterov", "spike")),
    "adam": Rule(
        adam_coefficients,
        adam,
        {"exp_avg": None, "exp_avg_sq": None, "max_exp_avg_sq": "amsgrad"},
        flags=("amsgrad",),
    ),
    "nadam": Rule(nadam_coefficients, nadam, {"exp_avg": None, "exp_avg_sq": None}, product=True, flags=()),
    "lion": Rule(lion_coefficients, lion, {"exp_avg": None}, flags=()),
}

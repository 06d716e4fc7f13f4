"""FLOPs of an update, counted by torch, and those that this GPU makes in a second, measured: both halves of MFU."""

from __future__ import annotations

import statistics
import time
from dataclasses import replace

import torch
from torch.utils.flop_counter import FlopCounterMode

from asyncpipe.tools.bench.problem import Problem

__all__ = ["flops_of", "measured_peak"]

_SIDE = 8192
_ROUNDS = 9
_PRODUCTS = 10


def flops_of(problem: Problem) -> float:
    """Forward and backward of one batch: products, convolutions and attention; counted on one sample."""
    one = Problem(replace(problem.workload, batch=1, alone=False), problem.device)
    model, batch = one.model(), one.batches[0]
    counter = FlopCounterMode(display=False)
    with counter:
        one.loss(model, batch).backward()
    return float(counter.get_total_flops()) * problem.workload.batch


def measured_peak(problem: Problem, side: int = _SIDE) -> float:
    """FLOP/s of large products of random bfloat16 numbers: zeros would cost less power, and be faster."""
    a, b = (torch.randn(side, side, device=problem.device, dtype=torch.bfloat16) for _ in range(2))
    rates = []
    for _ in range(_ROUNDS):
        problem.finish()
        start = time.perf_counter()
        for _ in range(_PRODUCTS):
            a @ b
        problem.finish()
        rates.append(_PRODUCTS * 2 * side**3 / (time.perf_counter() - start))
    return statistics.median(rates)

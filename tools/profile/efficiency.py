"""Model FLOPs utilisation, with a denominator that was measured here."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import cast

import torch

from asyncpipe.ir import Action, Op
from asyncpipe.runtime.execution import Execution
from asyncpipe.runtime.replicas import ReplicaGroup
from asyncpipe.runtime.stopwatch import Stopwatch
from asyncpipe.runtime.threads import usable_cores

__all__ = ["Efficiency", "efficiency", "stopwatch_seconds"]

_SIZE, _GPU_SIZE, _REPEATS = 1024, 8192, 5
_BACKWARD = 2
"""A backward has twice the products of its forward: one for the weights, one for the input."""
_STAMPS = 4_000


@dataclass(frozen=True)
class Efficiency:
    """FLOPs per second: of the training, forward and twice as many backward, and of the best product measured here."""

    flops_per_s: float
    peak_flops_per_s: float
    denominator: str

    @property
    def mfu(self) -> float:
        return self.flops_per_s / self.peak_flops_per_s


def efficiency(forward_flops: int, microbatches_per_s: float, device: str = "cpu") -> Efficiency:
    """`forward_flops` of one microbatch. Recomputed forwards do not count: they are no work of the model."""
    place = torch.device(device)
    size, threads = (_GPU_SIZE if place.type == "cuda" else _SIZE), usable_cores()
    where = f"on {torch.cuda.get_device_name(place)}" if place.type == "cuda" else f"on {threads} threads"
    words = f"a {size} x {size} float32 matrix product {where}, best of {_REPEATS}"
    peak = _product_flops_per_s(size, place, threads)
    return Efficiency((1 + _BACKWARD) * forward_flops * microbatches_per_s, peak, words)


def _product_flops_per_s(size: int, place: torch.device, threads: int) -> float:
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        a, b = (torch.ones(size, size, device=place) for _ in range(2))
        _seconds(a, b)
        return float(2 * size**3 / min(_seconds(a, b) for _ in range(_REPEATS)))
    finally:
        torch.set_num_threads(before)


def _seconds(a: torch.Tensor, b: torch.Tensor) -> float:
    begin = time.perf_counter()
    torch.mm(a, b)
    if a.is_cuda:
        torch.cuda.synchronize(a.device)
    return time.perf_counter() - begin


def stopwatch_seconds() -> float:
    """What timing one action costs: an action that does nothing with a stopwatch, less the same without."""
    plain = ReplicaGroup(cast(list[Execution], [_Nothing()]))
    timed, bare = (min(_each(group) for _ in range(_REPEATS)) for group in (Stopwatch().attach(plain), plain))
    return max(0.0, timed - bare)


class _Nothing:
    """Takes the place of an execution, and runs no action."""

    def run(self, stream: int, action: Action) -> None:
        pass


def _each(group: ReplicaGroup) -> float:
    action = Action(0, Op.F, 0)
    begin = time.perf_counter()
    for _ in range(_STAMPS):
        group.run_at_once(0, 0, action)
    return (time.perf_counter() - begin) / _STAMPS

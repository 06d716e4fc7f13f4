"""What is measured, in the order of its weight: the goals first, the sweeps last, so that a budget cuts the end."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass

from bench import Bench, Result
from cases import OPTIMIZERS, STORAGES
from followers import measure_followers
from gemm import measure_gemm
from host import measure_host
from sweep import measure_grids
from updates import measure_update
from writers import count_lost_updates

__all__ = ["Job", "full_plan", "smoke_plan"]

FP32, MASTER, STOCHASTIC = STORAGES


@dataclass(frozen=True)
class Job:
    """`seconds`: about what it takes on a GPU, compilation included; a job that does not fit any more is left out."""

    name: str
    seconds: float
    run: Callable[[Bench], Result]


def full_plan() -> list[Job]:
    goals = [_update(optimizer, FP32, size, 8) for optimizer in OPTIMIZERS for size in ("1e8", "1.1e7")]
    smaller = [_update(optimizer, FP32, "1e6", 5) for optimizer in OPTIMIZERS]
    halves = [
        _update(optimizer, storage, size, 6)
        for storage in (MASTER, STOCHASTIC)
        for size in ("1e8", "1.1e7", "1e6")
        for optimizer in OPTIMIZERS
    ]
    return [
        *goals,
        Job("two writers", 10, count_lost_updates),
        *smaller,
        _update("sgd", FP32, "1e6", 4, in_cache=True),
        _update("adamw", FP32, "1e6", 4, in_cache=True),
        Job("host time", 15, measure_host),
        Job("followers, 1.1e7", 20, functools.partial(measure_followers, size="1.1e7")),
        Job("next to matrix products", 15, measure_gemm),
        *halves,
        *(_grids(optimizer, size) for size in ("1.1e7", "1e8") for optimizer in ("sgd", "adamw")),
    ]


def smoke_plan() -> list[Job]:
    """Every optimizer, storage and experiment once, on the only size that a smoke run has."""
    storages = dict.fromkeys(OPTIMIZERS, FP32) | {"adamw": MASTER, "lion": STOCHASTIC}
    return [
        *(_update(optimizer, storage, "tiny", 0) for optimizer, storage in storages.items()),
        Job("two writers", 0, count_lost_updates),
        Job("host time", 0, measure_host),
        Job("followers, tiny", 0, functools.partial(measure_followers, size="tiny")),
        Job("next to matrix products", 0, measure_gemm),
        _grids("sgd", "tiny"),
    ]


def _update(optimizer: str, storage: str, size: str, seconds: float, in_cache: bool = False) -> Job:
    run = functools.partial(
        measure_update, optimizer_name=optimizer, storage_name=storage, size=size, sets=1 if in_cache else None
    )
    return Job(f"update {optimizer}, {storage}, {size}{', in the L2 cache' if in_cache else ''}", seconds, run)


def _grids(optimizer: str, size: str) -> Job:
    return Job(f"grids {optimizer}, {size}", 25, functools.partial(measure_grids, optimizer_name=optimizer, size=size))

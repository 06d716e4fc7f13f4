"""Row 13: what a period costs the host: the time of the issuing thread without its waiting for the device."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch

from asyncpipe.runtime.cuda.api import Cuda
from asyncpipe.tools.bench.ours import on_runtime
from asyncpipe.tools.bench.problem import Problem
from asyncpipe.tools.bench.setting import Setting
from asyncpipe.tools.bench.workloads import WORKLOADS

__all__ = ["host_cost", "microseconds_per_period"]

_WORKLOAD = "deep-narrow-100"
_PERIOD = 8
_PERIODS = 64
_ROUNDS = 9


def host_cost(setting: Setting) -> dict[str, Any]:
    """For schedules on `graph`; microbatches of a period, and microseconds of the host for each launch of one."""
    from asyncpipe.runtime.cuda.device import DeviceCuda

    problem = Problem(WORKLOADS[_WORKLOAD], torch.device("cuda"))
    found = {name: microseconds_per_period(problem, name, DeviceCuda()) for name in ("sgd", "async-lu")}
    values = {f"{name}, us per period": row["microseconds"] for name, row in found.items()}
    return {"period_microbatches": _PERIOD, "schedules": found, "values": values}


def microseconds_per_period(
    problem: Problem,
    schedule: str,
    cuda: Cuda,
    periods: int = _PERIODS,
    rounds: int = _ROUNDS,
    stages: int | None = None,
) -> dict[str, float]:
    """The difference of a long and a short run, over the launches in which they differ: fills and drains cancel out."""
    waiting = [0.0]
    with _timed(cuda, "synchronize", waiting), _timed(cuda, "on_host", waiting):
        launches = _counted(cuda)
        trainer = on_runtime(problem, schedule, cuda, stages, _PERIOD)
        trainer.train(4 * _PERIOD)  # traces, and captures
        taken = []
        for _ in range(rounds):
            seconds, counts = zip(
                *(_run(trainer.train, n * _PERIOD, waiting, launches) for n in (max(1, periods // 8), periods)),
                strict=True,
            )
            taken.append((seconds[1] - seconds[0]) / max(1, counts[1] - counts[0]))
    return {"microseconds": 1e6 * statistics.median(taken), "low": 1e6 * min(taken), "high": 1e6 * max(taken)}


def _run(train: Callable[[int], None], updates: int, waiting: list[float], launches: list[int]) -> tuple[float, int]:
    """Seconds of this thread without waits, and launches."""
    waited, before, start = waiting[0], launches[0], time.perf_counter()
    train(updates)
    return time.perf_counter() - start - (waiting[0] - waited), launches[0] - before


@contextmanager
def _timed(cuda: Cuda, name: str, total: list[float]) -> Iterator[None]:
    """Adds up the seconds of a method that may wait."""
    method = getattr(cuda, name)

    def timed(*arguments: Any) -> Any:
        start = time.perf_counter()
        try:
            return method(*arguments)
        finally:
            total[0] += time.perf_counter() - start

    setattr(cuda, name, timed)
    try:
        yield
    finally:
        setattr(cuda, name, method)


def _counted(cuda: Cuda) -> list[int]:
    """How often a graph was launched from now on."""
    count, launch = [0], cuda.launch

    def counted(*arguments: Any) -> None:
        count[0] += 1
        launch(*arguments)

    cuda.launch = counted  # type: ignore[method-assign, assignment]
    return count

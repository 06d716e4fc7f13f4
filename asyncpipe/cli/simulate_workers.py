"""`asyncpipe simulate --workers`: the same program where its streams share a few threads, as on `threads`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

from asyncpipe.analysis.prediction import microbatches_for, predict
from asyncpipe.analysis.workers import Workers
from asyncpipe.cli.simulation import Instance
from asyncpipe.errors import UsageError
from asyncpipe.ir import Op, Program
from asyncpipe.schedule.profile import is_profile

__all__ = ["OnWorkers", "on_workers", "workers_of"]

_ITERATIONS = 30


@dataclass(frozen=True)
class OnWorkers:
    """Period per microbatch of one replica, in the unit of the costs, and the share of time that each worker works."""

    workers: Workers
    period: float
    utilisation: tuple[float, ...]


def workers_of(count: int, costs: str | None) -> Workers:
    """With the dispatcher's overheads where the costs are a profile that has them, else without any."""
    if costs is None or not is_profile(costs):
        return Workers(count)
    from asyncpipe.tools.profile.files import read_workers

    known = read_workers(costs)
    return Workers(count) if known is None else replace(known, count=count)


def on_workers(instance: Instance, workers: Workers) -> OnWorkers:
    """UsageError where times are random or disturbed: streams then are threads, each late on its own."""
    if instance.timing.is_random or instance.timing.is_disturbed:
        raise UsageError("--workers: times must be exact, without delays and stragglers", "leave one of them out")
    program = instance.compiled.program(microbatches_for(instance.endless, _ITERATIONS))
    program = replace(program, costs=instance.endless.costs, unit=instance.endless.unit)
    times: Callable[[Op, int], float] = partial(_time, program)
    found = predict(program, times, workers)
    return OnWorkers(workers, found.period, found.utilisation)


def _time(program: Program, op: Op, stage: int) -> float:
    return float(program.costs[op][stage] * program.unit)

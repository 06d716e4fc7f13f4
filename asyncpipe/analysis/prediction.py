"""The period of a run on workers at measured times, by the same window as that of the run it is held against.

A microbatch ends with the last of its own actions. The window leaves out what fills and drains the pipeline.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from statistics import fmean

from asyncpipe.analysis.launch_graph import LaunchGraph, finite_graph, launch_count, shortened
from asyncpipe.analysis.workers import Times, WorkerRun, Workers, draw_on_workers, run_on_workers
from asyncpipe.errors import UsageError
from asyncpipe.ir import Action, Op, Program

__all__ = [
    "Ended",
    "Prediction",
    "microbatch_ends",
    "microbatches_for",
    "predict",
    "predict_drawn",
    "steady_edges",
    "steady_period",
]

_OWN = frozenset({Op.F, Op.B, Op.I, Op.W, Op.R})
_ENOUGH_LAUNCHES, _LEAST_ITERATIONS = 12_000, 20
"""As much of a long run as a prediction replays."""
Ended = tuple[int, Action, float]
"""(replica, action, when it ended)"""


@dataclass(frozen=True)
class Prediction:
    """Seconds per microbatch of one replica, and the share of the run in which each worker is at work."""

    period: float
    utilisation: tuple[float, ...]
    run: WorkerRun = field(repr=False)


def predict(program: Program, seconds: Callable[[Op, int], float], workers: Workers) -> Prediction:
    """A finite program at `seconds(op, stage)`, on these workers; UsageError where it is too short to have a period."""
    graph = finite_graph(program)
    return _prediction(run_on_workers(graph, [seconds(op, stage) for op, stage in graph.keys], workers), workers)


def predict_drawn(program: Program, times: Times, workers: Workers, draws: int = 3, seed: int = 0) -> Prediction:
    """The mean of some runs with times drawn from the measured ones; as much of a long run as is enough."""
    graph = finite_graph(_enough_of(program))
    found = [_prediction(draw_on_workers(graph, times, workers, seed + i), workers) for i in range(draws)]
    shares = zip(*(each.utilisation for each in found), strict=True)
    return Prediction(fmean(each.period for each in found), tuple(map(fmean, shares)), found[0].run)


def _enough_of(program: Program) -> Program:
    iterations = program.iterations or 0
    enough = max(_LEAST_ITERATIONS, _ENOUGH_LAUNCHES * iterations // max(1, launch_count(program)))
    return shortened(program, iterations - enough) if iterations > enough else program


def _prediction(run: WorkerRun, workers: Workers) -> Prediction:
    period = steady_period(microbatch_ends(_ended(run)), run.graph.program)
    return Prediction(period, _utilisation(run, workers.count), run)


def _ended(run: WorkerRun) -> Iterator[Ended]:
    actions = _actions(run.graph)
    for replica, ends in enumerate(run.ends):
        yield from ((replica, action, end) for action, end in zip(actions, ends, strict=True))


def _actions(graph: LaunchGraph) -> list[Action]:
    return [graph.action(launch) for launch in range(len(graph))]


def _utilisation(run: WorkerRun, count: int) -> tuple[float, ...]:
    busy = [0.0] * count
    for starts, ends, workers in zip(run.starts, run.ends, run.workers, strict=True):
        for start, end, worker in zip(starts, ends, workers, strict=True):
            busy[worker] += end - start
    return tuple(time / (run.makespan or 1) for time in busy)


def microbatch_ends(actions: Iterable[Ended]) -> list[float]:
    """When each microbatch of each replica had its last action, in the order of time."""
    last: dict[tuple[int, int], float] = {}
    for replica, action, end in actions:
        if action.op in _OWN:
            key = replica, action.index
            last[key] = max(last.get(key, 0.0), end)
    return sorted(last.values())


def steady_period(ends: Sequence[float], program: Program) -> float:
    """Seconds per microbatch of one replica, in the steady part of a run; UsageError where there is none."""
    first, last = steady_edges(len(ends), program)
    return (ends[last] - ends[first]) / (last - first) * program.replicas


def steady_edges(count: int, program: Program) -> tuple[int, int]:
    """Which of so many microbatch ends bound the steady part, a whole number of the program's iterations."""
    step, fill = program.step * program.replicas, (program.start + program.step) * program.replicas
    iterations = (count - 1 - 2 * fill) // step
    if iterations < 1:
        message = f"{count // program.replicas} microbatches are too few for a steady state"
        raise UsageError(message, f"use at least {microbatches_for(program, 1)}")
    return fill, fill + step * iterations


def microbatches_for(program: Program, iterations: int) -> int:
    """How many microbatches a replica needs for so many steady iterations."""
    every = program.every
    least = 2 * (program.start + program.step) + iterations * program.step + 1
    return -(-least // every) * every

"""How long a finite run takes. What recurs in the steady state is counted, not run: any length costs the same."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from math import lcm

from asyncpipe.analysis.asap import earliest_times
from asyncpipe.analysis.launch_graph import finite_graph, launch_count, shortened
from asyncpipe.analysis.steady import SteadyRun, run_steady
from asyncpipe.analysis.timing import Timing, replica_classes, ticks
from asyncpipe.errors import UsageError
from asyncpipe.ir import Program

__all__ = ["Makespan", "exact_makespan"]

_FEW, _MOST = 20_000, 3_000_000
"""Launches of the body: fewer than the first are just run, more than the second only if they recur."""


@dataclass(frozen=True)
class Makespan:
    """The time of a run, and how long each stream works in it (in the first class of replicas)."""

    time: Fraction
    busy: tuple[Fraction, ...]


def exact_makespan(program: Program, timing: Timing) -> Makespan:
    """The makespan of any number of microbatches; UsageError where too many of them do not recur."""
    launches = launch_count(program)
    runs = run_steady(program, timing) if launches > _FEW else []
    removed = _recurring_iterations(program, runs)
    if launches > _MOST and not removed:
        message = f"{program.microbatches:,} microbatches are too many, since their times do not recur"
        raise UsageError(message, "ask for fewer --microbatches")
    short = shortened(program, removed) if removed else program
    graph = finite_graph(short)
    exact = ticks(graph, timing, replica_classes(short, timing))
    ends = [max(times.ends) * exact.unit for times in earliest_times(graph, exact)]
    busy = [Fraction(0)] * len(program.streams)
    for stream, cost in zip(graph.stream, exact.costs[0], strict=True):
        busy[stream] += cost
    busy = [time * exact.unit for time in busy]
    if not removed:
        return Makespan(max(ends), tuple(busy))
    ends = [end + removed * _pace(run) for end, run in zip(ends, runs, strict=True)]
    return Makespan(max(ends), tuple(b + removed * w for b, w in zip(busy, _iteration_work(runs[0]), strict=True)))


def _recurring_iterations(program: Program, runs: Sequence[SteadyRun]) -> int:
    """How many iterations can be left out: whole recurrences of all classes, in the middle of the run."""
    found = [run.recurrence for run in runs if run.recurrence is not None]
    if not runs or len(found) < len(runs):
        return 0
    cycle = lcm(*(r.iterations for r in found))
    kept = max(r.first + r.iterations for r in found) + runs[0].graph.reach + cycle
    return max(0, (program.iterations or 0) - kept) // cycle * cycle


def _pace(run: SteadyRun) -> Fraction:
    """The time of one iteration."""
    assert run.recurrence is not None
    return Fraction(run.recurrence.ticks, run.recurrence.iterations) * run.ticks.unit


def _iteration_work(run: SteadyRun) -> list[Fraction]:
    """How long each stream works in one iteration."""
    work = [Fraction(0)] * len(run.graph.program.streams)
    for launch in range(run.graph.first, run.graph.first + run.graph.width):
        work[run.graph.stream[launch]] += run.costs[launch] * run.ticks.unit
    return work

"""All that a measured run shows: times, overheads, streams, pace, and what the simulator makes of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from asyncpipe.analysis.launch_graph import finite_graph
from asyncpipe.analysis.prediction import microbatch_ends, predict, predict_drawn, steady_edges, steady_period
from asyncpipe.analysis.workers import Times, Workers
from asyncpipe.compiler import Compiled
from asyncpipe.ir import AUTHORED, Op, Program, TimedRun
from asyncpipe.tools.profile.flight import in_flight
from asyncpipe.tools.profile.overheads import Overheads, overheads_of
from asyncpipe.tools.profile.steps import steps_of
from asyncpipe.tools.profile.streams import StreamUse, stream_uses
from asyncpipe.tools.profile.times import OpTimes, steady_span, times_of

__all__ = ["Predicted", "Profile", "examine"]

Key = tuple[Op, int]


@dataclass(frozen=True)
class Predicted:
    """Seconds per microbatch of one replica: on the workers there are, and with a processor for each stream."""

    on_workers: float
    on_own_processors: float

    def error(self, measured: float) -> float:
        """How far the first is off, as a share of what was measured."""
        return self.on_workers / measured - 1


@dataclass(frozen=True)
class Profile:
    """What one run shows. Periods are seconds per microbatch of one replica.

    contention: by op, how many times longer it took beside others than alone; empty where nothing ran beside another.
    """

    run: TimedRun = field(repr=False)
    period: float
    times: OpTimes
    overheads: Overheads
    workers: int
    worker_busy: Sequence[float]
    streams: Sequence[StreamUse]
    in_flight: Sequence[Mapping[int, float]]
    steady: tuple[int, float]
    """How many microbatches the steady part has, of all replicas, and how many seconds it took."""
    length: float
    predicted: Predicted
    alone: OpTimes | None = None
    contention: Mapping[Op, float] = field(default_factory=dict)
    staleness: Mapping[str, Any] = field(default_factory=dict)

    def samples_per_s(self, batch: int) -> float:
        return batch * self.run.program.replicas / self.period


def examine(
    run: TimedRun,
    workers: int,
    compiled: Compiled | None = None,
    alone: TimedRun | None = None,
    staleness: Mapping[str, Any] | None = None,
) -> Profile:
    """Works everything out; `compiled` names the reasons of waits. UsageError where the run was too short."""
    program, graph = run.program, finite_graph(run.program)
    steps, span = steps_of(run, graph), steady_span(run.actions, run)
    ends = microbatch_ends((timed.replica, timed.action, timed.end) for timed in run.actions)
    first, last = steady_edges(len(ends), program)
    times, overheads = times_of(run, span), overheads_of(steps)
    alone_times = None if alone is None else times_of(alone, steady_span(alone.actions, alone))
    length = max(timed.end for timed in run.actions)
    return Profile(
        run,
        steady_period(ends, program),
        times,
        overheads,
        workers,
        _worker_busy(run, workers, length),
        stream_uses(steps, graph, compiled, workers),
        in_flight(run.actions, program.stages, span),
        (last - first, span[1] - span[0]),
        length,
        _predicted(program, Times(times.samples, overheads.hand_overs, overheads.wakes), workers),
        alone_times,
        {} if alone_times is None else _contention(times, alone_times),
        staleness or {},
    )


def _predicted(program: Program, times: Times, workers: int) -> Predicted:
    streams = len(program.streams) * program.replicas
    own = predict(program, times.mean, Workers(streams)).period
    return Predicted(predict_drawn(program, times, times.means(workers)).period, own)


def _worker_busy(run: TimedRun, workers: int, length: float) -> list[float]:
    busy = [0.0] * max(workers, 1 + max(timed.worker for timed in run.actions))
    for timed in run.actions:
        busy[timed.worker] += timed.seconds
    return [seconds / length for seconds in busy]


def _contention(times: OpTimes, alone: OpTimes) -> dict[Op, float]:
    return {op: times.total(op) / alone.total(op) for op in AUTHORED if alone.total(op) > 0 and times.of(op)}

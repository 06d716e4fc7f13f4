"""Simulation with random times: medians over the samples, each sample with all its replicas."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from typing import TYPE_CHECKING

from asyncpipe.analysis.launch_graph import LaunchGraph, finite_graph, launch_count, steady_graph
from asyncpipe.analysis.sampled_staleness import stage_lags
from asyncpipe.analysis.sampling import SampledTimes, check_size, sampled_times
from asyncpipe.analysis.simulate import Simulation, Spread, StreamUse
from asyncpipe.analysis.staleness import Staleness
from asyncpipe.analysis.timing import Timing
from asyncpipe.analysis.work import work
from asyncpipe.ir import Program

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Array = NDArray[np.float64]

__all__ = ["sampled_throughputs", "simulate_sampled", "spread_of"]

_MICROBATCHES, _LEAST_ITERATIONS, _MOST_LAUNCHES = 256, 16, 200_000
"""How much of the steady state a sample shows."""


def simulate_sampled(program: Program, timing: Timing, samples: int, seed: int, finite: Program | None) -> Simulation:
    """Medians and spreads of `samples` runs of the steady state, and of as many of the finite program."""
    paces: list[float] = []
    uses: list[list[float]] = []
    lags: list[Staleness] = []
    for times in sampled_times(_steady_graph(program), timing, samples, seed):
        paces += _throughputs(times)
        uses += _utilisations(times)
        lags += _staleness(times)
    makespans, busy = _finite_runs(finite, timing, samples, seed)
    spreads = {
        "period": spread_of([program.replicas / pace for pace in paces]),
        "speedup": spread_of([float(work(program)) * pace for pace in paces]),
        "staleness": spread_of([float(sum(lag.apply) / len(lag.apply)) for lag in lags]),
    }
    if makespans:
        spreads["makespan"] = spread_of(makespans)
    streams = [
        StreamUse(s.name, s.device, _median([b[i] for b in busy]) if busy else None, _median([u[i] for u in uses]))
        for i, s in enumerate(program.streams)
    ]
    return Simulation(
        program,
        samples,
        spreads["period"].median,
        _median(paces),
        spreads["speedup"].median,
        _median(makespans) if makespans else None,
        tuple(streams),
        _middle(lags),
        spreads,
    )


def sampled_throughputs(program: Program, timing: Timing, samples: int, seed: int) -> list[float]:
    """Per sample the microbatches of all replicas per unit of time, in the steady state."""
    blocks = sampled_times(_steady_graph(program), timing, samples, seed)
    return [pace for times in blocks for pace in _throughputs(times)]


def spread_of(values: Sequence[float]) -> Spread:
    """Median, and 10th and 90th percentile."""
    import numpy as np

    low, median, high = np.percentile(values, [10, 50, 90])
    return Spread(float(median), float(low), float(high))


def _median(values: Sequence[float]) -> float:
    return spread_of(values).median


def _steady_graph(program: Program) -> LaunchGraph:
    width = len(steady_graph(program, 1).body)
    wanted = max(_LEAST_ITERATIONS, -(-_MICROBATCHES // program.step))
    return steady_graph(program, max(_LEAST_ITERATIONS, min(wanted, _MOST_LAUNCHES // width)))


def _throughputs(times: SampledTimes) -> list[float]:
    """Per sample the microbatches of all replicas per time, by the slope over the later half of the run.

    Each launch of the body goes its own pace; a microbatch is complete at that of its slowest launch.
    """
    import numpy as np

    graph = times.graph
    half = graph.iterations // 2
    first, middle = graph.first + (graph.iterations - 1) * graph.width, graph.first + half * graph.width
    slopes = (times.ends[first:] - times.ends[middle : middle + graph.width]) / (graph.iterations - 1 - half)
    pace = np.zeros(slopes.shape[1:])
    for places in _launches_by_residue(graph):
        pace += 1 / slopes[places].max(axis=0)
    return [float(each) for each in pace.sum(axis=1)]


def _launches_by_residue(graph: LaunchGraph) -> list[list[int]]:
    every, step = graph.program.every, graph.program.step
    found: list[list[int]] = [[] for _ in range(step)]
    for place, launch in enumerate(graph.body):
        by_update = graph.keys[launch.key][0].by_update
        first, size = (launch.index * every, every) if by_update else (launch.index, 1)
        for microbatch in range(first, first + size):
            found[microbatch % step].append(place)
    return found


def _utilisations(times: SampledTimes) -> list[list[float]]:
    """Per sample the share of time in which each stream works, in the later half of its launches."""
    import numpy as np

    graph = times.graph
    launches: list[list[int]] = [[] for _ in graph.program.streams]
    for launch, stream in enumerate(graph.stream):
        launches[stream].append(launch)
    shares = []
    for numbers in launches:
        later = np.array(numbers[len(numbers) // 2 :])
        span = times.ends[later[-1]] - times.ends[later[0]]
        busy = (times.ends[later[1:]] - times.starts[later[1:]]).sum(axis=0)
        shares.append(np.divide(busy, span, out=np.zeros_like(busy), where=span > 0).mean(axis=1))
    return [[float(share[i]) for share in shares] for i in range(times.ends.shape[1])]


def _staleness(times: SampledTimes) -> list[Staleness]:
    stages = [stage_lags(times, stage) for stage in range(times.graph.program.stages)]
    return [
        Staleness(
            tuple(stage.applied[i] for stage in stages),
            tuple(stage.most[i] for stage in stages),
            tuple(stage.between[i] for stage in stages),
        )
        for i in range(times.ends.shape[1])
    ]


def _middle(lags: Sequence[Staleness]) -> Staleness:
    """Stage by stage the median of the means and of the maxima."""

    def middle(values: Sequence[Fraction | int]) -> Fraction:
        ordered = sorted(values)
        half = len(ordered) // 2
        return Fraction(ordered[half] + ordered[-1 - half]) / 2

    columns = range(len(lags[0].apply))
    return Staleness(
        tuple(middle([lag.apply[s] for lag in lags]) for s in columns),
        tuple(int(middle([lag.max[s] for lag in lags])) for s in columns),
        tuple(middle([lag.forward_backward[s] for lag in lags]) for s in columns),
    )


def _finite_runs(
    program: Program | None, timing: Timing, samples: int, seed: int
) -> tuple[list[float], list[list[float]]]:
    """(makespans, per sample the time in which each stream of the first replica works); nothing without a run."""
    if program is None:
        return [], []
    check_size(launch_count(program), program)
    graph = finite_graph(program)
    makespans: list[float] = []
    busy: list[list[float]] = []
    for times in sampled_times(graph, timing, samples, seed):
        makespans += [float(end) for end in times.ends.max(axis=(0, 2))]
        spent = (times.ends - times.starts)[:, :, 0]
        for i in range(spent.shape[1]):
            row = [0.0] * len(program.streams)
            for stream, time in zip(graph.stream, spent[:, i], strict=True):
                row[stream] += float(time)
            busy.append(row)
    return makespans, busy

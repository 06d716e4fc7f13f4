"""How many microbatches a program completes in the long run, exactly.

The launches of the body wait for each other in cycles; each goes on at the pace of the slowest cycle that leads to it.
Where streams do not wait for each other, as Hogwild! workers, each completes its own microbatches at its own pace.
"""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction

from asyncpipe.analysis.asap import meets
from asyncpipe.analysis.cycles import Arc, cycle_times
from asyncpipe.analysis.steady import SteadyRun
from asyncpipe.ir import Op

__all__ = ["body_graph", "throughput"]


def throughput(runs: Sequence[SteadyRun]) -> Fraction:
    """Microbatches of all replicas per unit of the schedule's time."""
    unit, step = runs[0].ticks.unit, runs[0].graph.program.step
    if all(run.recurrence for run in runs):
        found = [(run.recurrence, len(run.members)) for run in runs]
        paces = [Fraction(members * step * r.iterations, r.ticks) for r, members in found if r]
        return sum(paces, Fraction(0)) / unit
    return _by_residue(runs) / unit


def _by_residue(runs: Sequence[SteadyRun]) -> Fraction:
    times, width = cycle_times(body_graph(runs)), runs[0].graph.width
    total = Fraction(0)
    for number, run in enumerate(runs):
        slowest: dict[int, Fraction] = {}
        for place in range(width):
            for residue in _residues(run, place):
                slowest[residue] = max(slowest.get(residue, Fraction(0)), times[number * width + place])
        total += len(run.members) * sum((1 / time for time in slowest.values()), Fraction(0))
    return total


def _residues(run: SteadyRun, place: int) -> list[int]:
    """The microbatches of an iteration, modulo its step, that this launch of the body is part of."""
    launch, program = run.graph.body[place], run.graph.program
    if run.graph.keys[launch.key][0].by_update:
        first = launch.index * program.every
        return [m % program.step for m in range(first, first + program.every)]
    return [launch.index % program.step]


def body_graph(runs: Sequence[SteadyRun]) -> list[list[Arc]]:
    """What each launch of the body waits for, in each class of replicas: its stream, its events, the other replicas."""
    graph = runs[0].graph
    joint = meets(graph.program) and len(runs) > 1
    before = _stream_order(runs[0])
    arcs: list[list[Arc]] = []
    for number, run in enumerate(runs):
        last = run.graph.first + (run.graph.iterations - 1) * graph.width
        for place, launch in enumerate(graph.body):
            weight = run.costs[last + place] + run.holds.get(last + place, 0)
            meeting = joint and graph.keys[launch.key][0] is Op.SYNC
            classes = range(len(runs)) if meeting else (number,)
            waits = dict.fromkeys([before[place], *launch.waits])
            arcs.append([Arc(c * graph.width + source, weight, back) for c in classes for back, source in waits])
    return arcs


def _stream_order(run: SteadyRun) -> list[tuple[int, int]]:
    """Per launch of the body (iterations back, place) of the one before it in its stream."""
    last: dict[int, int] = {}
    for place, launch in enumerate(run.graph.body):
        last[launch.stream] = place
    found, seen = [], set()
    for place, launch in enumerate(run.graph.body):
        found.append((0 if launch.stream in seen else 1, last[launch.stream]))
        seen.add(launch.stream)
        last[launch.stream] = place
    return found

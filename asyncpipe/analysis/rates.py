"""How many microbatches a program completes in the long run, exactly.

The launches of the body wait for each other in cycles; each goes on at the pace of the slowest cycle that leads to it.
Where streams do not wait for each other, as Hogwild! workers, each completes its own microbatches at its own pace.
"""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction

from asyncpipe.analysis.body_graph import body_graph
from asyncpipe.analysis.cycles import cycle_times
from asyncpipe.analysis.steady import SteadyRun
from asyncpipe.ir import Op

__all__ = ["throughput"]


def throughput(runs: Sequence[SteadyRun]) -> Fraction:
    """Microbatches of all replicas per unit of the schedule's time."""
    unit, step = runs[0].ticks.unit, runs[0].graph.program.step
    if all(run.recurrence for run in runs):
        found = [(run.recurrence, len(run.members)) for run in runs]
        paces = [Fraction(members * step * r.iterations, r.ticks) for r, members in found if r]
        return sum(paces, Fraction(0)) / unit
    return _by_residue(runs) / unit


def _by_residue(runs: Sequence[SteadyRun]) -> Fraction:
    times, width = cycle_times(body_graph(runs[0].graph, runs[0].ticks)), runs[0].graph.width
    total = Fraction(0)
    for number, run in enumerate(runs):
        slowest: dict[int, Fraction] = {}
        for place in range(width):
            for residue in _residues(run, place):
                slowest[residue] = max(slowest.get(residue, Fraction(0)), times[number * width + place])
        total += len(run.members) * sum((1 / time for time in slowest.values()), Fraction(0))
    return total


def _residues(run: SteadyRun, place: int) -> list[int]:
    """The microbatches of an iteration, modulo its step, that this launch of the body is part of.

    A synchronisation is part of none: what waits for it has its pace anyway, and else it holds nothing up.
    """
    launch, program = run.graph.body[place], run.graph.program
    op = run.graph.keys[launch.key][0]
    if op is Op.SYNC:
        return []
    if op.by_update:
        first = launch.index * program.every
        return [m % program.step for m in range(first, first + program.every)]
    return [launch.index % program.step]

"""Pictures of a simulated run: its timeline beside the plan's."""

from __future__ import annotations

from collections.abc import Mapping

from asyncpipe.analysis.asap import earliest_times
from asyncpipe.analysis.launch_graph import LaunchGraph, finite_graph, launch_count
from asyncpipe.analysis.sampling import sampled_times
from asyncpipe.analysis.timing import replica_classes, ticks
from asyncpipe.cli.options import compact, counted, number
from asyncpipe.cli.pictures import write_pictures
from asyncpipe.cli.simulation import Results
from asyncpipe.errors import UsageError
from asyncpipe.ir import Action
from asyncpipe.pictures.html import Panel
from asyncpipe.pictures.timeline import planned, timeline_of

__all__ = ["draw_simulation"]

_MOST_LAUNCHES = 1_000_000


def draw_simulation(results: Results, targets: Mapping[str, str]) -> None:
    """Writes the pictures: of replicas the first that no delay or straggler names, of random times the first sample.

    UsageError where the run has too many actions, or a file cannot be written.
    """
    instance, program = results.instance, results.instance.finite
    if launch_count(program) > _MOST_LAUNCHES:
        message = f"a picture shows at most {_MOST_LAUNCHES:,} actions, not {launch_count(program):,}"
        raise UsageError(message, "use fewer --microbatches or --stages")
    size = f"{counted(program.stages, 'stage')}, {counted(instance.microbatches, 'microbatch', 'microbatches')}"
    simulated = timeline_of(program, _times(results, finite_graph(program)))
    panels = [Panel("simulation", simulated, _facts(results)), Panel("plan", planned(program), ())]
    write_pictures(targets, f"{program.schedule}: {size}, simulated", panels)


def _times(results: Results, graph: LaunchGraph) -> dict[Action, tuple[float, float]]:
    timing, program = results.instance.timing, graph.program
    if timing.is_random:
        sample = next(sampled_times(graph, timing, 1, results.asked.seed))
        starts, ends = (array[:, 0, 0].tolist() for array in (sample.starts, sample.ends))
        return {graph.action(i): (starts[i], ends[i]) for i in range(len(graph))}
    exact = ticks(graph, timing, replica_classes(program, timing))
    times, unit = earliest_times(graph, exact)[0], float(exact.unit)
    return {graph.action(i): (times.starts[i] * unit, times.ends[i] * unit) for i in range(len(graph))}


def _facts(results: Results) -> tuple[tuple[str, str], ...]:
    found = results.simulation
    staleness = compact([float(f"{float(value):.3g}") for value in found.staleness.apply])
    disturbed = [f"{delay.selector} late by {delay.value}" for delay in results.instance.timing.delays]
    disturbed += [f"{s.selector} slow by {number(s.factor)}" for s in results.instance.timing.stragglers]
    facts = [("period", f"{number(found.period)} per microbatch"), ("staleness per stage", staleness)]
    return (*facts, *(("disturbed", text) for text in disturbed))

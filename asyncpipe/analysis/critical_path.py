"""The critical path of a steady period: the launches that each start when the one before ends, round and round."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction

from asyncpipe.analysis.body_graph import body_graph
from asyncpipe.analysis.cycles import Arc, Cycle, longest_cycle
from asyncpipe.analysis.launch_graph import LaunchGraph
from asyncpipe.analysis.loops import Loop, Step, is_storage, make_loop, origin_of
from asyncpipe.analysis.steady import SteadyRun
from asyncpipe.errors import Position
from asyncpipe.passes.diagram import Diagram

__all__ = ["critical_path", "reason_of"]


def critical_path(runs: Sequence[SteadyRun], diagram: Diagram) -> Loop | None:
    """The slowest cycle of the program, in the schedule's unit: nothing gets faster unless one of its steps does.

    Of several, one that does not lead through the storage that the compiler chose.
    """
    graph = body_graph(runs[0].graph, runs[0].ticks)
    cycle = longest_cycle(graph, _storage(runs, diagram, graph))
    return None if cycle is None else _loop(runs, diagram, cycle)


def _storage(runs: Sequence[SteadyRun], diagram: Diagram, arcs: Sequence[Sequence[Arc]]) -> set[tuple[int, Arc]]:
    found = set()
    for node, each in enumerate(arcs):
        for arc in each:
            target, source = _launches(runs[0].graph, node, arc)
            origin = origin_of(diagram, runs[0].graph.action(target), runs[0].graph.action(source))
            if origin is not None and is_storage(origin):
                found.add((node, arc))
    return found


def _launches(graph: LaunchGraph, node: int, arc: Arc) -> tuple[int, int]:
    """(target, source) of an arc into the last iteration of a run."""
    last = graph.iterations - 1
    target = graph.first + last * graph.width + node % graph.width
    return target, graph.first + (last - arc.distance) * graph.width + arc.source % graph.width


def _loop(runs: Sequence[SteadyRun], diagram: Diagram, cycle: Cycle) -> Loop:
    graph = runs[0].graph
    iteration, steps, free = 0, [], []
    for node, arc in cycle.hops:
        iteration += arc.distance
        steps.append(_step(runs, diagram, node, arc, iteration))
        free.append(arc.weight == 0)
    time = cycle.ratio * iteration * runs[0].ticks.unit
    loop = make_loop(_without_free(steps, free, diagram), graph.program.every, iteration * graph.program.step, time)
    through = [runs[node // graph.width].members[0] for node, _ in cycle.hops]
    return replace(loop, replicas=tuple(dict.fromkeys(through)) if len(runs) > 1 else ())


def _without_free(steps: list[Step], free: list[bool], diagram: Diagram) -> list[Step]:
    """Without what costs nothing and only stands between two actions of which one waits for the other anyway."""
    kept: list[Step] = []
    for number, step in enumerate(steps):
        if len(kept) > 1 and free[number - 1]:
            origin = origin_of(diagram, step.action, kept[-2].action)
            if origin is not None and not is_storage(origin):
                kept.pop()
                step = Step(step.action, origin.text, origin.where)
        kept.append(step)
    return kept


def _step(runs: Sequence[SteadyRun], diagram: Diagram, node: int, arc: Arc, iteration: int) -> Step:
    run = runs[node // runs[0].graph.width]
    graph = run.graph
    target, source = _launches(graph, node, arc)
    reason, where = reason_of(graph, diagram, target, source)
    if node // graph.width != arc.source // graph.width:
        reason, where = "the replicas meet", None
    held = Fraction(run.holds.get(target, 0)) * run.ticks.unit
    reason += f", held up for {held}" if held else ""
    action = graph.action(target).later((iteration - graph.iterations + 1) * graph.program.step, graph.program.every)
    return Step(action, reason, where)


def reason_of(graph: LaunchGraph, diagram: Diagram | None, target: int, source: int) -> tuple[str, Position | None]:
    """Why one launch waits for another: the diagram's reason, else the order of their stream."""
    origin = None if diagram is None else origin_of(diagram, graph.action(target), graph.action(source))
    if origin is not None:
        return origin.text, origin.where
    stream = graph.program.streams[graph.stream[target]].name
    return f"stream order of {stream}" if graph.stream[target] == graph.stream[source] else "event", None

"""How fast a schedule can be at best, and what holds it back.

period >= max(ResMII, RecMII), the bounds of modulo scheduling (Rau 1996): no stream does more than its work, and no
cycle of waits is shorter than its actions, divided by the microbatches that it spans.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction

from asyncpipe.analysis.cycles import Arc, longest_cycle
from asyncpipe.analysis.loops import Loop, Step, is_storage, make_loop, origin_of
from asyncpipe.ir import Action, Op
from asyncpipe.passes.diagram import Diagram
from asyncpipe.passes.plan import Plan

__all__ = ["Bounds", "bounds", "recurrence_bound", "resource_bound"]

Cost = Callable[[Op, int], int]
_FAR = 10**6
"""After so many periods every edge exists."""
_MOST_NODES = 60_000


@dataclass(frozen=True)
class Bounds:
    """Ticks per microbatch; `streams` are those that reach the resource bound, `cycle` the one that gives the other.

    `recurrence` is 0 where nothing waits in a cycle, None where the diagram repeats too late to look for one.
    """

    resource: Fraction
    streams: tuple[str, ...]
    recurrence: Fraction | None
    cycle: Loop | None

    @property
    def best(self) -> Fraction:
        return max(self.resource, self.recurrence or Fraction(0))

    def binding(self, period: Fraction) -> str:
        """What the period is bound by: resource, recurrence, both, or order, where neither bound is reached."""
        names = {"resource": self.resource, "recurrence": self.recurrence}
        reached = [name for name, bound in names.items() if bound == period]
        return {0: "order", 1: reached[0] if reached else "", 2: "both"}[len(reached)]


def bounds(diagram: Diagram, plan: Plan, cost: Cost) -> Bounds:
    """Both bounds; costs and bounds are in ticks."""
    resource, streams = resource_bound(diagram, plan, cost)
    if len(diagram.ops) * diagram.repeats[1] > _MOST_NODES:
        return Bounds(resource, streams, None, None)
    cycle = recurrence_bound(diagram, cost)
    return Bounds(resource, streams, Fraction(0) if cycle is None else cycle.period, cycle)


def resource_bound(diagram: Diagram, plan: Plan, cost: Cost) -> tuple[Fraction, tuple[str, ...]]:
    """The work of the busiest stream for one microbatch; streams that take what comes next share theirs."""
    work: dict[tuple[int, int], Fraction] = {}
    pools: dict[tuple[int, int], list[str]] = {}
    for number, (stream, order, cut) in enumerate(zip(diagram.streams, plan.orders, plan.cuts, strict=True)):
        pool = (stream.group, -1) if stream.is_dynamic else (stream.group, number)
        pools.setdefault(pool, []).append(stream.name)
        own = sum(cost(action.op, action.stage) for action in order[cut:])
        work[pool] = work.get(pool, Fraction(0)) + Fraction(own, plan.microbatches)
    shares = {pool: total / len(pools[pool]) for pool, total in work.items()}
    most = max(shares.values())
    return most, tuple(name for pool, share in shares.items() if share == most for name in pools[pool])


def recurrence_bound(diagram: Diagram, cost: Cost) -> Loop | None:
    """The cycle of waits that takes longest for the microbatches that it spans, whatever the streams are."""
    nodes = _Nodes(diagram)
    graph = [nodes.arcs(action, cost) for action in nodes.actions]
    cycle = longest_cycle(graph)
    if cycle is None:
        return None
    iteration, steps = 0, []
    for node, arc in cycle.hops:
        iteration += arc.distance
        steps.append(_step(nodes, node, iteration, arc))
    microbatches = iteration * nodes.modulus
    return make_loop(steps, diagram.every, microbatches, cycle.ratio * iteration)


class _Nodes:
    """The steady actions modulo the period of the diagram: far actions stand for all that are whole periods apart."""

    def __init__(self, diagram: Diagram) -> None:
        self.diagram = diagram
        self.modulus = diagram.repeats[1]
        self.actions: list[Action] = []
        for op, stage in diagram.ops:
            period = self.period(op)
            far = [Action(stage, op, _FAR * period + residue) for residue in range(period)]
            self.actions += [action for action in far if diagram.is_action(action)]
        self.number = {self.folded(action): i for i, action in enumerate(self.actions)}

    def period(self, op: Op) -> int:
        return self.modulus // self.diagram.every if op.by_update else self.modulus

    def folded(self, action: Action) -> tuple[Op, int, int]:
        return action.op, action.stage, action.index % self.period(action.op)

    def arcs(self, action: Action, cost: Cost) -> list[Arc]:
        """From the actions that this one waits for: it starts when they end."""
        found = []
        for source, origin in self.diagram.predecessors(action):
            if not is_storage(origin):
                back = action.index // self.period(action.op) - source.index // self.period(source.op)
                found.append(Arc(self.number[self.folded(source)], cost(source.op, source.stage), back))
        return found


def _step(nodes: _Nodes, node: int, iteration: int, arc: Arc) -> Step:
    far = nodes.actions[node]
    source = nodes.actions[arc.source]
    before = source.shifted(-arc.distance * nodes.period(source.op))
    origin = origin_of(nodes.diagram, far, before)
    action = far.shifted(iteration * nodes.period(far.op))
    return Step(action, origin.text if origin else "", origin.where if origin else None)

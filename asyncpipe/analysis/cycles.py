"""The cycle of a dependency graph that takes longest for the iterations that it spans, in exact integers.

Howard's policy iteration (Cochet-Terrasson, Cohen, Gaubert, McGettrick, Quadrat 1998) inside each strongly connected
component; the rate of a node is the largest ratio among the cycles that lead to it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import NamedTuple

from asyncpipe.errors import InternalError

__all__ = ["Arc", "Cycle", "cycle_times", "longest_cycle"]


class Arc(NamedTuple):
    """The node waits for `source`: it comes `weight` ticks after it, and `distance` iterations later."""

    source: int
    weight: int
    distance: int


_MOST_STARTS = 32
Graph = Sequence[Sequence[Arc]]
"""Per node what it waits for."""


@dataclass(frozen=True)
class Cycle:
    """`ratio` ticks per iteration; (node, arc to it) in the order of time."""

    ratio: Fraction
    hops: tuple[tuple[int, Arc], ...]


def longest_cycle(graph: Graph, avoided: Collection[tuple[int, Arc]] = ()) -> Cycle | None:
    """A cycle of the largest ratio, None where the graph has no cycle; (node, arc) in `avoided` only if it must."""
    _, cycles = _solve(graph, avoided)
    return max(cycles, key=lambda cycle: cycle.ratio, default=None)


def cycle_times(graph: Graph) -> list[Fraction]:
    """Per node how many ticks each of its iterations takes in the long run: 0 where no cycle leads to it."""
    return _solve(graph)[0]


def _solve(graph: Graph, avoided: Collection[tuple[int, Arc]] = ()) -> tuple[list[Fraction], list[Cycle]]:
    rates = [Fraction(0)] * len(graph)
    cycles = []
    component = [-1] * len(graph)
    for number, nodes in enumerate(_Components(graph).all()):
        for node in nodes:
            component[node] = number
        inside = {node: [arc for arc in graph[node] if component[arc.source] == number] for node in nodes}
        before = [rates[arc.source] for node in nodes for arc in graph[node] if component[arc.source] != number]
        rate = max(before, default=Fraction(0))
        if any(inside.values()):
            cycles.append(_Howard(inside, avoided).solve())
            rate = max(rate, cycles[-1].ratio)
        for node in nodes:
            rates[node] = rate
    return rates, cycles


class _Components:
    """Strongly connected components, each after those that it waits for (Tarjan 1972, without recursion)."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.order = [-1] * len(graph)
        self.low = [0] * len(graph)
        self.stack: list[int] = []
        self.waiting = [False] * len(graph)
        self.count = 0

    def all(self) -> Iterator[list[int]]:
        for root in range(len(self.graph)):
            if self.order[root] < 0:
                yield from self._from(root)

    def _enter(self, node: int) -> tuple[int, Iterator[Arc]]:
        self.order[node] = self.low[node] = self.count
        self.count += 1
        self.stack.append(node)
        self.waiting[node] = True
        return node, iter(self.graph[node])

    def _from(self, root: int) -> Iterator[list[int]]:
        low, path = self.low, [self._enter(root)]
        while path:
            node, arcs = path[-1]
            for source, _, _ in arcs:
                if self.order[source] < 0:
                    path.append(self._enter(source))
                    break
                if self.waiting[source]:
                    low[node] = min(low[node], self.order[source])
            else:
                path.pop()
                if path:
                    low[path[-1][0]] = min(low[path[-1][0]], low[node])
                if low[node] == self.order[node]:
                    yield self._leave(node)

    def _leave(self, node: int) -> list[int]:
        nodes: list[int] = []
        while not nodes or nodes[-1] != node:
            nodes.append(self.stack.pop())
            self.waiting[nodes[-1]] = False
        return nodes


def _shortest(arcs: dict[int, list[Arc]], starts: list[int]) -> list[tuple[int, Arc]] | None:
    """The cycle of the fewest arcs through one of these nodes, in the order of time."""
    best: list[tuple[int, Arc]] | None = None
    for start in starts:
        best = _around(arcs, start, len(best) if best else len(arcs) + 1) or best
    return None if best is None else best[::-1]


def _around(arcs: dict[int, list[Arc]], start: int, limit: int) -> list[tuple[int, Arc]] | None:
    """A cycle through `start` of fewer than `limit` arcs, each node with its arc, backwards in time."""
    came: dict[int, tuple[int, Arc]] = {}
    queue = deque([(start, 1)])
    while queue:
        node, length = queue.popleft()
        if length >= limit:
            return None
        for arc in arcs[node]:
            if arc.source == start:
                path = [(node, arc)]
                while path[-1][0] != start:
                    path.append(came[path[-1][0]])
                return path[::-1]
            if arc.source not in came:
                came[arc.source] = (node, arc)
                queue.append((arc.source, length + 1))
    return None


class _Howard:
    """One component. The policy is one arc per node; its values tell how much later a node is than the best cycle.

    Weights count as `denominator` * weight - `numerator` * distance, so that the best cycle counts 0.
    """

    def __init__(self, arcs: dict[int, list[Arc]], avoided: Collection[tuple[int, Arc]]) -> None:
        self.arcs = arcs
        self.avoided = avoided
        self.policy = {node: max(of, key=lambda arc: (arc.weight, -arc.distance)) for node, of in arcs.items()}
        self.values = dict.fromkeys(arcs, 0)
        self.order = sorted(arcs)
        self.ratio: Fraction | None = None

    def solve(self) -> Cycle:
        while True:
            cycles = self._policy_cycles()
            best = max(self._ratio(cycle) for cycle in cycles)
            if best != self.ratio:
                self.ratio = best
                self.values = dict.fromkeys(self.arcs, 0)
            critical = [cycle for cycle in cycles if self._ratio(cycle) == best]
            self._evaluate([cycle[0] for cycle in critical])
            if not self._improve():
                return Cycle(best, tuple(self._fewest_hops(critical[0])))

    def _fewest_hops(self, cycle: list[int]) -> list[tuple[int, Arc]]:
        """The shortest of the best cycles through some nodes of this one: its arcs all keep to the values."""
        starts = cycle[:: -(-len(cycle) // _MOST_STARTS)]
        tight = {node: [arc for arc in arcs if self._is_tight(node, arc)] for node, arcs in self.arcs.items()}
        wanted = {node: [a for a in arcs if (node, a) not in self.avoided] for node, arcs in tight.items()}
        best = _shortest(wanted, starts) or _shortest(tight, starts)
        return best or [(node, self.policy[node]) for node in reversed(cycle)]

    def _is_tight(self, node: int, arc: Arc) -> bool:
        return self.values[arc.source] + self._reduced(arc) == self.values[node]

    def _policy_cycles(self) -> list[list[int]]:
        """The cycles of the policy, each from a node to its source and on."""
        seen: dict[int, int] = {}
        found = []
        for root in self.arcs:
            node = root
            while node not in seen:
                seen[node] = root
                node = self.policy[node].source
            if seen[node] == root:
                found.append(self._around(node))
        return found

    def _around(self, start: int) -> list[int]:
        nodes = [start]
        while (node := self.policy[nodes[-1]].source) != start:
            nodes.append(node)
        return nodes

    def _ratio(self, cycle: list[int]) -> Fraction:
        distance = sum(self.policy[node].distance for node in cycle)
        if distance <= 0:
            raise InternalError("a cycle of waits spans no iteration")
        return Fraction(sum(self.policy[node].weight for node in cycle), distance)

    def _reduced(self, arc: Arc) -> int:
        assert self.ratio is not None
        return arc.weight * self.ratio.denominator - arc.distance * self.ratio.numerator

    def _evaluate(self, roots: list[int]) -> None:
        """The values along the policy; nodes that it leads to worse cycles are led to the best ones instead."""
        followers: dict[int, list[int]] = {node: [] for node in self.arcs}
        for node, arc in self.policy.items():
            followers[arc.source].append(node)
        known = set(roots)
        queue = deque(roots)
        while queue:
            source = queue.popleft()
            for node in followers[source]:
                if node not in known:
                    self.values[node] = self.values[source] + self._reduced(self.policy[node])
                    known.add(node)
                    queue.append(node)
        if len(known) < len(self.arcs):
            self._redirect(known)

    def _redirect(self, known: set[int]) -> None:
        followers: dict[int, list[tuple[int, Arc]]] = {node: [] for node in self.arcs}
        for node, arcs in self.arcs.items():
            for arc in arcs:
                followers[arc.source].append((node, arc))
        queue = deque(known)
        while queue:
            source = queue.popleft()
            for node, arc in followers[source]:
                if node not in known:
                    self.policy[node] = arc
                    self.values[node] = self.values[source] + self._reduced(arc)
                    known.add(node)
                    queue.append(node)

    def _improve(self) -> bool:
        """Whether some node has an arc along which it is later than by its policy; takes the best ones.

        Values rise at once, so that a long chain takes one sweep; sweeps go to and fro.
        """
        assert self.ratio is not None
        numerator, denominator = self.ratio.numerator, self.ratio.denominator
        values, improved = self.values, False
        for node in self.order:
            latest = values[node]
            for arc in self.arcs[node]:
                value = values[arc.source] + arc.weight * denominator - arc.distance * numerator
                if value > latest:
                    latest, self.policy[node], improved = value, arc, True
            values[node] = latest
        self.order.reverse()
        return improved

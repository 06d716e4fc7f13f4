"""The slowest cycle of a graph, against every cycle of it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from asyncpipe.analysis.cycles import Arc, cycle_times, longest_cycle
from asyncpipe.errors import InternalError

Graph = list[list[Arc]]


@st.composite
def graphs(draw: st.DrawFn) -> Graph:
    size = draw(st.integers(1, 6))
    arc = st.builds(Arc, st.integers(0, size - 1), st.integers(0, 9), st.integers(1, 3))
    return draw(st.lists(st.lists(arc, max_size=3), min_size=size, max_size=size))


def cycles(graph: Graph) -> Iterator[list[Arc]]:
    """Every simple cycle, from its lowest node."""

    def walk(start: int, node: int, path: list[Arc], seen: set[int]) -> Iterator[list[Arc]]:
        for arc in graph[node]:
            if arc.source == start:
                yield [*path, arc]
            elif arc.source > start and arc.source not in seen:
                yield from walk(start, arc.source, [*path, arc], seen | {arc.source})

    for start in range(len(graph)):
        yield from walk(start, start, [], {start})


def ratio(arcs: Sequence[Arc]) -> Fraction:
    return Fraction(sum(arc.weight for arc in arcs), sum(arc.distance for arc in arcs))


@settings(max_examples=300)
@given(graphs())
def test_slowest_cycle_is_the_largest_of_all(graph: Graph) -> None:
    found = longest_cycle(graph)
    expected = max(map(ratio, cycles(graph)), default=None)
    assert (found.ratio if found else None) == expected
    if found is not None:
        assert ratio([arc for _, arc in found.hops]) == found.ratio
        nodes = [node for node, _ in found.hops]
        assert [arc.source for _, arc in found.hops] == [nodes[-1], *nodes[:-1]]
        assert all(arc in graph[node] for node, arc in found.hops)


def leads_to(graph: Graph, node: int) -> set[int]:
    """All nodes that this one waits for, directly or not, and itself."""
    found = {node}
    while more := {arc.source for each in found for arc in graph[each]} - found:
        found |= more
    return found


@settings(max_examples=200)
@given(graphs())
def test_each_node_goes_the_pace_of_the_slowest_cycle_that_it_waits_for(graph: Graph) -> None:
    for node, time in enumerate(cycle_times(graph)):
        before = leads_to(graph, node)
        inside = [[arc for arc in arcs if i in before] for i, arcs in enumerate(graph)]
        assert time == max(map(ratio, cycles(inside)), default=Fraction(0))


def test_cycle_of_few_hops_is_preferred_and_avoided_arcs_are_last() -> None:
    """1 waits for 0 directly, and by 2 which costs nothing; both ways round are equally long."""
    direct, around = Arc(0, 2, 0), Arc(2, 0, 0)
    graph = [[Arc(1, 1, 1)], [direct, around], [Arc(0, 2, 0)]]
    found = longest_cycle(graph)
    assert found is not None
    assert found.ratio == 3
    assert [node for node, _ in found.hops] == [1, 0]
    avoiding = longest_cycle(graph, {(1, direct)})
    assert avoiding is not None
    assert avoiding.ratio == 3
    assert [node for node, _ in avoiding.hops] == [2, 1, 0]


def test_cycle_without_distance_is_a_bug() -> None:
    with pytest.raises(InternalError, match="spans no iteration"):
        longest_cycle([[Arc(0, 1, 0)]])


def test_long_chains_need_no_recursion() -> None:
    size = 20_000
    chain = [[Arc((node - 1) % size, 1, 1 if node == 0 else 0)] for node in range(size)]
    found = longest_cycle(chain)
    assert found is not None
    assert found.ratio == size

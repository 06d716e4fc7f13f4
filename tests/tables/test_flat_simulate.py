"""Times of flat tables: equal to a plain replay for random tables, costs and latencies; known makespans; errors."""

from __future__ import annotations

import random
from collections.abc import Sequence
from itertools import chain
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from asyncpipe.errors import UsageError
from asyncpipe.tables import flat_settle
from asyncpipe.tables.flat import OPS, Graph, TickCosts, from_text, generate, lower, retime, simulate, verify
from tests.tables.flat_oracle import end_times, lowered, parts, random_rows


def graph_of(name: str, devices: int, stages: int, microbatches: int) -> Graph:
    graph = verify(lower(generate(name, devices, stages, microbatches)))
    assert isinstance(graph, Graph)
    return graph


def random_case(seed: int) -> tuple[list[list[str]], int, Graph, dict[str, list[int]], list[list[int]], bool]:
    rng = random.Random(seed)
    devices, stages = rng.randint(1, 5), rng.randint(1, 6)
    rows = random_rows(rng, devices, stages, rng.randint(1, 6))
    is_lowered = rng.random() < 0.5
    if is_lowered:
        rows = lowered(rng, rows, stages)
    graph = verify(from_text(rows, stages, lowered=is_lowered))
    assert isinstance(graph, Graph)
    largest = rng.choice([1, 3, 1000, 10**12])
    costs = {op: [rng.randint(0, largest) for _ in range(stages)] for op in OPS}
    latency = [[rng.randint(0, largest) for _ in range(devices)] for _ in range(devices)]
    return rows, stages, graph, costs, latency, is_lowered


@settings(max_examples=200)
@given(st.integers(0, 2**32), st.sampled_from([12, 2, 0]))
def test_times_equal_a_plain_replay(seed: int, sweeps: int) -> None:
    """Also where sweeps do not settle, so that runs are walked one by one."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(flat_settle, "SWEEPS", sweeps)
        rows, stages, graph, costs, latency, is_lowered = random_case(seed)
        times = simulate(graph, costs, latency)

    def cost(action: str) -> int:
        stage, op, _ = parts(action)
        return costs[op][stage]

    ends = end_times(rows, stages, is_lowered, cost, lambda a, b: latency[a][b])
    actions = list(chain(*rows))
    assert times.end.tolist() == [ends[action] for action in actions]
    assert times.start.tolist() == [ends[action] - cost(action) for action in actions]
    assert times.makespan == max(ends.values())
    assert times.busy.tolist() == [sum(map(cost, row)) for row in rows]
    assert (times.busy + times.bubble).tolist() == [times.makespan] * len(rows)


def test_long_chains_between_two_devices_are_walked_and_exact() -> None:
    """A microbatch goes to and fro for each stage, so sweeps would need as many turns as there are stages."""
    stages = 200
    rows = [[f"{s}F0" for s in range(d, stages, 2)] + [f"{s}B0" for s in range(stages - 2 + d, -1, -2)] for d in (0, 1)]
    graph = verify(from_text(rows))
    assert isinstance(graph, Graph)
    assert graph.tangled
    times = simulate(graph, {"F": 3, "B": 5}, latency=7)
    assert times.makespan == 8 * stages + 7 * 2 * (stages - 1)
    assert retime(times, {"F": 1, "B": 1}).makespan == 2 * stages + 7 * 2 * (stages - 1)


@pytest.mark.parametrize(
    ("name", "devices", "stages", "microbatches", "costs", "makespan"),
    [
        ("gpipe", 4, 4, 8, {"F": 1, "B": 2}, 33),
        ("1f1b", 4, 4, 8, {"F": 1, "B": 2}, 33),
        ("interleaved-1f1b", 4, 8, 8, {"F": 1, "B": 2}, 2 * 8 * 3 + 3 * 3),
        ("zb-h1", 4, 4, 8, {"F": 1, "I": 1, "W": 1}, 8 * 3 + 3),
    ],
)
def test_makespans_are_those_of_the_papers(
    name: str, devices: int, stages: int, microbatches: int, costs: dict[str, int], makespan: int
) -> None:
    """(b + D - 1)(F + B); interleaving divides the ramps by the stages of a device; ZB-H1 leaves (D - 1)(F + I - W)."""
    assert simulate(graph_of(name, devices, stages, microbatches), costs).makespan == makespan


def test_free_transfers_do_not_change_the_times_of_computations() -> None:
    for name, stages in (("1f1b", 4), ("interleaved-1f1b", 8), ("zb-h1", 8)):
        table = generate(name, 4, stages, 12)
        plain, full = verify(table), verify(lower(table))
        assert isinstance(plain, Graph)
        assert isinstance(full, Graph)
        costs = {"F": 4, "B": 7, "I": 3, "W": 5}
        computations = full.table.op < 4
        assert simulate(full, costs, 6).end[computations].tolist() == simulate(plain, costs, 6).end.tolist()


def test_retiming_equals_timing_anew_and_keeps_the_latency() -> None:
    graph = graph_of("interleaved-1f1b", 4, 8, 16)
    before = simulate(graph, {"F": 1, "B": 2}, latency=5)
    costs: TickCosts = {"F": range(3, 11), "B": [9, 1, 5, 5, 5, 2, 8, 30], "SEND_F": 2, "RECV_B": 1}
    after, anew = retime(before, costs), simulate(graph, costs, latency=5)
    assert after.end.tolist() == anew.end.tolist()
    assert after.makespan == anew.makespan != before.makespan
    assert retime(after, {"F": 1, "B": 2}).end.tolist() == before.end.tolist()


def test_a_link_delays_only_what_goes_over_it() -> None:
    graph = graph_of("gpipe", 3, 3, 1)
    one_way = [[0, 10, 0], [0, 0, 0], [0, 0, 0]]
    assert simulate(graph, {"F": 1, "B": 2}, one_way).makespan == 9 + 10
    assert simulate(graph, {"F": 1, "B": 2}, 10).makespan == 9 + 40


def test_numpy_integers_are_ticks_too() -> None:
    graph = graph_of("1f1b", 2, 2, 2)
    given_by_numpy: Any = {"F": np.int64(1), "B": np.array([2, 2]).tolist()}
    assert simulate(graph, given_by_numpy).makespan == simulate(graph, {"F": 1, "B": 2}).makespan


@pytest.mark.parametrize(
    ("costs", "latency", "message"),
    [
        ({"F": 1}, 0, "costs: B is missing"),
        ({"F": 1, "B": 2, "X": 1}, 0, "costs: expected one of F, B, I, W, SEND_F, RECV_F, SEND_B, RECV_B, found 'X'"),
        ({"F": 1, "B": -2}, 0, "costs of B: expected an integer of at least 0, or 2 of them, found -2"),
        ({"F": 1, "B": [2]}, 0, "costs of B: expected an integer of at least 0, or 2 of them, found [2]"),
        ({"F": 1.5, "B": 2}, 0, "costs of F: expected an integer of at least 0, or 2 of them, found 1.5"),
        ({"F": 1, "B": 2}, -1, "latency: expected one integer of at least 0, or 2 x 2 of them, found -1"),
        ({"F": 1, "B": 2}, 0.5, "latency: expected one integer of at least 0, or 2 x 2 of them, found 0.5"),
        ({"F": 1, "B": 2}, [[0, 1]], "latency: expected one integer of at least 0, or 2 x 2 of them"),
        ({"F": 1 << 59, "B": 2}, 0, "these costs add up to more than 2^60 ticks"),
        ({"F": 1 << 70, "B": 2}, 0, "these costs add up to more than 2^60 ticks"),
    ],
)
def test_costs_that_mean_nothing_are_refused(
    costs: dict[str, Any], latency: int | Sequence[Sequence[int]], message: str
) -> None:
    with pytest.raises(UsageError) as caught:
        simulate(graph_of("1f1b", 2, 2, 2), costs, latency)
    assert message in str(caught.value)


def test_a_table_of_a_million_actions_has_the_known_makespan() -> None:
    """Every device is busy for 4 stages x 5,320 microbatches x 3 ticks, and idles 7 x 3 ticks in the ramps."""
    graph = graph_of("interleaved-1f1b", 8, 32, 5320)
    times = simulate(graph, {"F": 1, "B": 2})
    assert len(graph.table) == 1_000_160
    assert times.makespan == 4 * 5320 * 3 + 21
    assert times.bubble.tolist() == [21] * 8

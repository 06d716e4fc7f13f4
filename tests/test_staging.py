"""Cutting layers into stages: as even as can be, always the same, and fast for a thousand layers."""

from __future__ import annotations

import random
from itertools import combinations

import pytest

from asyncpipe.schedule import load
from asyncpipe.staging import LEAST_STAGE_SECONDS, cut_evenly, cut_stages, estimated_seconds
from tests.small_models import Small


def all_cuts(layers: int, stages: int) -> list[tuple[range, ...]]:
    """In the order of their beginnings."""
    ends = combinations(range(1, layers), stages - 1)
    return [tuple(range(a, b) for a, b in zip((0, *cut), (*cut, layers), strict=True)) for cut in ends]


def largest(costs: list[float], cut: tuple[range, ...]) -> float:
    return max(sum(costs[i] for i in part) for part in cut)


@pytest.mark.parametrize("costs_up_to", [3, 1000])
def test_largest_stage_is_as_small_as_possible(costs_up_to: int) -> None:
    draw = random.Random(costs_up_to)
    for _ in range(60):
        costs = [float(draw.randint(0, costs_up_to)) for _ in range(draw.randint(1, 9))]
        stages = draw.randint(1, len(costs))
        cut = cut_evenly(costs, stages)
        assert largest(costs, cut) == min(largest(costs, other) for other in all_cuts(len(costs), stages))


def test_of_equal_cuts_the_last_stage_is_the_longest() -> None:
    """Runs of before must be cut alike today."""
    assert cut_evenly([1.0] * 7, 3) == (range(2), range(2, 4), range(4, 7))
    assert cut_evenly([1.0, 1.0, 0.0, 0.0, 2.0], 2) == (range(2), range(2, 5))


def test_resnet_1202_is_cut_by_its_costs_at_once() -> None:
    costs = Small("resnet", {"depth": 1202}, (3, 32, 32)).describe(4)
    cut = cut_stages(load("async-lu"), None, len(costs), lambda: costs)
    work = [sum(estimated_seconds(costs[i]) for i in part) for part in cut]
    assert len(cut) > 100
    assert min(work) >= LEAST_STAGE_SECONDS
    assert [i for part in cut for i in part] == list(range(602))

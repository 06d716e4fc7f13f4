"""Proposed stages: cuts by cost around what cannot be cut, each with the words that make `run` cut so."""

from __future__ import annotations

import pytest

from asyncpipe.errors import Report
from asyncpipe.schedule import read_schedule
from asyncpipe.staging import cut_stages
from asyncpipe.tools.fit.stages import Proposal, proposals, ranges_text

COSTS = [5.0, 1.0, 1.0, 1.0, 4.0, 4.0]
BYTES = [10, 20, 30, 40, 50, 60]


def proposed(blocked: dict[int, str], asked: int | None = None, costs: list[float] = COSTS) -> list[Proposal]:
    return proposals(costs, BYTES, blocked, asked, COSTS)


def test_two_and_four_stages_are_proposed() -> None:
    two, four = proposed({})
    assert (ranges_text(two.parts), ranges_text(four.parts)) == ("0-3 4-5", "0 1-2 3-4 5")
    assert (two.shares, two.balance) == ((0.5, 0.5), 1.0)
    assert (two.handed_over, four.handed_over) == ((40,), (10, 30, 50))
    assert two.option == ("--stages", "2")


def test_no_stage_ends_where_none_can() -> None:
    (two,) = proposed({3: "layer 3 gives a dict", 4: "layer 4 gives a dict"}, 2)
    assert ranges_text(two.parts) == "0-2 3-5"
    assert two.option == ("-o", "stages=[{name: s0, layers: 0-2}, {name: s1, layers: 3-5}]")


def test_fewer_stages_are_proposed_where_so_many_cannot_be() -> None:
    (found,) = proposed({0: "", 1: "", 2: "", 3: ""}, 5)
    assert ranges_text(found.parts) == "0-4 5"
    assert proposed(dict.fromkeys(range(5), "tied")) == []


@pytest.mark.parametrize("costs", [COSTS, [1.0, 9.0, 1.0, 1.0, 1.0, 1.0]])
@pytest.mark.parametrize("blocked", [{}, {3: "tied"}])
def test_run_cuts_as_proposed(costs: list[float], blocked: dict[int, str]) -> None:
    for one in proposed(blocked, None, costs):
        option, value = one.option
        schedule = read_schedule("sgd", Report(), [value] if option == "-o" else [])
        assert schedule is not None
        asked = int(value) if option == "--stages" else None
        work = [_Work(seconds) for seconds in COSTS]
        assert cut_stages(schedule, asked, len(COSTS), lambda work=work: work) == one.parts  # type: ignore[misc]


class _Work:
    """A layer that takes so many seconds."""

    def __init__(self, seconds: float) -> None:
        self.forward_flops = int(seconds * 30e9)
        self.activation_bytes = self.parameter_bytes = self.operations = 0


def test_of_many_stages_the_first_and_the_last_are_named() -> None:
    assert ranges_text([range(i, i + 1) for i in range(12)]) == "0 1 2 3 4 5 ... 11"

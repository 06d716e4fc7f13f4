"""`asyncpipe.simulate`: plain values in, a frozen result out."""

from __future__ import annotations

from dataclasses import FrozenInstanceError
from fractions import Fraction
from typing import Any

import pytest

from asyncpipe.api import compile, simulate
from asyncpipe.errors import UsageError
from asyncpipe.schedule import Costs

LU = compile("async-lu", stages=8)


def test_program_is_simulated_with_its_own_costs() -> None:
    found = simulate(LU)
    assert (found.period, found.speedup, found.makespan) == (8, 3, None)
    assert found.staleness.apply == tuple(map(Fraction, (2, 2, 2, 1, 1, 1, 0, 0)))
    assert [(s.name, s.busy, s.utilisation) for s in found.streams] == [
        (name, None, 1) for name in ("forward", "backward[0]", "backward[1]")
    ]
    with pytest.raises(FrozenInstanceError):
        found.samples = 3  # type: ignore[misc]


def test_a_library_name_stands_for_its_program() -> None:
    assert simulate("async-lu", costs={"B": 4}) == simulate(compile("async-lu"), costs={"B": 4})


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("async-lu", 0), "stages: expected an integer from 1 to 4,096, found 0"),
        (("async-lu", -2), "stages: expected an integer from 1 to 4,096, found -2"),
        (("async-lu", 4097), "stages: expected an integer from 1 to 4,096, found 4097"),
        (("async-lu", "3"), "stages: expected an integer from 1 to 4,096, found '3'"),
        (("async-lu", 3, 0), "microbatches: expected an integer of at least 1, found 0"),
        ((5,), "schedule: expected a library name, a file or a Schedule, found 5"),
    ],
)
def test_what_is_no_schedule_or_number_is_a_usage_error(arguments: Any, message: str) -> None:
    with pytest.raises(UsageError) as caught:
        compile(*arguments)
    assert caught.value.message == message


def test_program_that_ends_has_a_makespan() -> None:
    found = simulate(compile("async-lu", stages=8, microbatches=10))
    assert found.makespan == 96
    assert [s.busy for s in found.streams] == [80, 80, 80]
    assert simulate(compile("async-lu", stages=8, microbatches=10**9)).makespan == 8 * (10**9 + 2)


@pytest.mark.parametrize(
    ("costs", "period"),
    [
        ({"B": 4}, 16),
        ({"B": "7/2"}, 14),
        ({"F": 0.25, "B": 0.5}, 2),
        ({"B": [1, 2, 3, 4, 5, 6, 7, 8]}, 18),
        ({"B": [4]}, 16),
        (Costs((("B", (Fraction(4),)),)), 16),
        (None, 8),
    ],
)
def test_costs_may_be_numbers_texts_or_lists(costs: Any, period: float) -> None:
    assert simulate(LU, costs=costs).period == period


def test_distributions_delays_and_stragglers_are_texts_and_names() -> None:
    found = simulate(LU, costs={"B": "uniform(2, 2)"}, samples=3, seed=7)
    assert found.samples == 3
    assert found.period == pytest.approx(8)
    assert sorted(found.spreads) == ["period", "speedup", "staleness"]
    assert simulate(LU, delays={"backward[0]": 4}).period == 10
    assert simulate(LU, stragglers={"forward": "3/2"}).period == 12


def test_delays_may_be_given_in_forward_passes_at_the_costs_of_the_run() -> None:
    for costs, cost in ((None, 1), ({"F": [1, 2] * 4}, Fraction(3, 2))):
        late = simulate(LU, costs=costs, delays={"backward[0]": 4 * cost})
        assert simulate(LU, costs=costs, delays={"backward[0]": "1/2T"}).period == late.period
    drawn = [simulate(LU, delays={"forward": f"exponential({t})"}, samples=2).spreads for t in ("1T", "8")]
    assert drawn[0] == drawn[1]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"costs": {"X": 1}}, "costs: no op is called 'X'\n  help: the ops are F, B, I, W, U, R, SYNC, SEND"),
        ({"costs": {"F": -1}}, "costs['F']: expected a time of at least 0, found -1"),
        ({"costs": {"F": True}}, "costs['F']: expected a time of at least 0, found True"),
        ({"costs": {"F": float("inf")}}, "costs['F']: expected a time of at least 0, found inf"),
        ({"costs": {"F": "gamma(1)"}}, "costs['F']: no distribution is called 'gamma'"),
        ({"costs": {"F": [1, 2]}}, "costs['F']: expected 8 values, one per stage, found 2"),
        ({"delays": {"nobody": 1}}, "nobody: async-lu has no such stream"),
        ({"delays": {"a b": 1}}, "'a b': expected a stream such as"),
        ({"delays": {"forward": "1s"}}, "delays['forward']: virtual time has no seconds\n  help: as in 4T"),
        ({"delays": {"forward": "x"}}, "delays['forward']: expected a number of at least 0 or a distribution"),
        ({"stragglers": {"forward": 0}}, "stragglers['forward']: expected a factor above 0, found 0"),
        ({"stragglers": {"forward": "uniform(1,2)"}}, "stragglers['forward']: expected a factor above 0"),
    ],
)
def test_what_means_nothing_is_a_usage_error(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError) as caught:
        simulate(LU, **arguments)
    assert str(caught.value).startswith(message)


def test_short_program_has_no_steady_state() -> None:
    with pytest.raises(UsageError, match="too short for a steady state\n  help: compile it for more microbatches"):
        simulate(compile("async-lu", stages=8, microbatches=2))

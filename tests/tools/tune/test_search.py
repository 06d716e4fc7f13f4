"""Which settings are planned, in which order they are promising, and why some are rejected."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from asyncpipe.errors import UsageError
from asyncpipe.schedule import load
from asyncpipe.schedule.load import library
from asyncpipe.tools.tune.candidate import Candidate
from asyncpipe.tools.tune.planning import Limits, Plan, Planner
from asyncpipe.tools.tune.profile import read_profile
from asyncpipe.tools.tune.search import Searched, search
from asyncpipe.tools.tune.space import Machine, Values, default_space, narrowed, own_values, read_spaces, states_ratio
from tests.tools.tune.pretended import costs

PROFILE = read_profile(costs())
ONE: dict[str, Values] = {"streams.forward.count": ("1",), "streams.backward.count": ("1",), "stages": ()}


RATIOS: dict[str, Values] = {"streams.ratio": ("1:1", "1:2"), "stages": (), "threads": ("1",)}


def searched(
    name: str = "async-lu",
    spaces: dict[str, Values] | None = None,
    limits: Limits = Limits(),  # noqa: B008  frozen
    best: int = 3,
    profile: object = PROFILE,
    asked: Sequence[str] = (),
) -> Searched:
    assert isinstance(profile, type(PROFILE))
    schedule = load(name, asked)
    is_ratio = states_ratio(schedule, asked)
    space = narrowed(default_space(schedule, Machine(profile.cores), len(profile.layers), is_ratio), spaces or {})
    own = Candidate(name, (), profile.threads)
    return search(own, schedule, space, own_values(schedule, is_ratio), Planner(profile, limits, asked, None), best)


def lines(plans: Sequence[Plan]) -> list[str]:
    return [f"{p.candidate.words}: {p.rejected or round(p.speed or 0)}" for p in plans]


def test_counts_depths_and_threads_are_planned_at_the_files_own_cut_and_the_best_ones_at_others() -> None:
    found = searched(spaces={"stages": ("2",), "threads": ("1",)})
    assert lines(found.planned) == [
        "as in the file, threads 1: 5161",
        "sgd stages 1, threads 1: 2581",
        "backward 1, threads 1: 3810",
        "backward 1 in_flight 2, threads 1: 3810",
        "in_flight 4, threads 1: 5161",
        "backward 3, threads 1: 5161",
        "backward 3 in_flight 4, threads 1: 5161",
        "backward 3 in_flight 5, threads 1: 5161",
        "forward 2 backward 1, threads 1: 3810",
        "forward 2 backward 1 in_flight 4, threads 1: 3810",
        "forward 2, threads 1: 5161",
        "forward 2 in_flight 4, threads 1: 5161",
        "forward 2 in_flight 5, threads 1: 5161",
        "forward 3 backward 1, threads 1: 3810",
        "forward 3 backward 1 in_flight 4, threads 1: 3810",
        "forward 3 backward 1 in_flight 5, threads 1: 3810",
        "stages 2, threads 1: 5161",
        "in_flight 4 stages 2, threads 1: 5161",
        "backward 3 stages 2, threads 1: 5161",
        "forward 2 stages 2, threads 1: 5161",
        "backward 3 in_flight 4 stages 2, threads 1: 5161",
        "backward 3 in_flight 5 stages 2, threads 1: 5161",
    ]


def test_two_threads_for_each_action_leave_one_worker() -> None:
    """Then a microbatch takes what it takes alone, 12.4 ms / 1.5, whatever the streams are."""
    found = searched(spaces={"threads": ("2",), "stages": ()})
    speeds = {round(plan.speed or 0) for plan in found.planned if plan.candidate.threads == 2}
    assert speeds == {round(32 / (0.0124 / 1.5))}


def test_own_setting_and_the_synchronous_schedule_are_always_measured() -> None:
    found = searched("pd-asgd", spaces={"streams.ratio": ("2:4",), "in_flight": ("6",), "stages": ()}, best=0)
    assert [plan.candidate.words for plan in found.finalists] == [
        "as in the file, threads 1",
        "sgd stages 1, threads 2",
        "sgd stages 1, threads 1",
    ]


def test_each_counts_are_measured_with_one_depth_only() -> None:
    found = searched(best=10)
    assert len({(p.counts, p.stages, p.candidate.threads) for p in found.others}) == len(found.others)


def test_settings_that_run_the_same_program_are_planned_once() -> None:
    """`ratio: auto` is 1:2 where a backward takes two forwards: that is no other setting."""
    found = searched("pd-asgd", asked=["streams.ratio=auto", "in_flight=3"], spaces=RATIOS)
    assert found.own.counts == "1:2"
    assert "ratio 1:2, threads 1" not in [plan.candidate.words for plan in found.planned]
    assert "ratio 1:1, threads 1" in [plan.candidate.words for plan in found.planned]


def test_counts_that_stand_in_a_ratio_are_searched_there() -> None:
    found = searched("pd-asgd", spaces={"in_flight": ("6",), "stages": (), "threads": ("1",)})
    assert not found.rejected
    titles = [plan.candidate.title for plan in found.planned]
    assert titles[2:5] == ["ratio 1:1", "ratio 1:2", "ratio 1:3"]
    assert "ratio 2:4" not in titles  # the file's own


def test_model_is_cut_by_measured_times_too() -> None:
    """The first layer takes as long as the other three, although its operations do not tell."""
    uneven = costs()
    for times in uneven["alone"].values():
        times["layers"] = {op: [3 * each[0], *each[1:]] for op, each in times["layers"].items()}
        times["whole"] = {op: [sum(each)] for op, each in times["layers"].items()}
    found = searched("pipedream", {"stages": ("2",), "threads": ("1",)}, profile=read_profile(uneven))
    assert lines(found.planned)[2:] == ["stages 2, threads 1: 2581", "layers 0-0 1-3, threads 1: 3441"]
    assert found.others[0].candidate.overrides == ("stages=[{name: stage0, layers: 0-0}, {name: stage1, layers: 1-3}]",)


@pytest.mark.parametrize("name", ["lppsgd", "passm-plus", "fdg", "gpipe", "sgd"])
def test_counts_that_make_the_algorithm_are_not_searched(name: str) -> None:
    """Workers with blocks of their own, bodies, streams of devices, and synchronous SGD."""
    schedule = load(name)
    assert dict(default_space(schedule, Machine(2), 4, states_ratio(schedule, ())).counts) == {}


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(library()))
def test_every_schedule_of_the_library_can_be_planned(name: str) -> None:
    found = searched(name, best=2)
    assert found.finalists[0] is found.own
    assert found.own.speed


def test_limit_of_staleness_rejects_with_its_reason() -> None:
    found = searched(spaces={"stages": (), "threads": ("1",)}, limits=Limits(staleness=1))
    assert lines(found.rejected)[:2] == [
        "as in the file, threads 1: staleness 2 is above 1",
        "backward 1, threads 1: staleness 2 is above 1",
    ]
    assert [plan.candidate.words for plan in found.others] == ["backward 1 in_flight 2, threads 1"]
    assert found.finalists[0] is found.own  # the reference, even so


def test_limit_of_memory_counts_activations_in_flight_and_parameters() -> None:
    """Of the four layers: 4 x 40 bytes of parameters, and 4 x 400 bytes for each microbatch in flight."""
    found = searched(spaces={"stages": (), "threads": ("1",)}, limits=Limits(memory=160 + 3 * 1600))
    assert lines(found.rejected)[:2] == [
        "forward 2 backward 1 in_flight 4, threads 1: a device needs 6,560 bytes, more than 4,960",
        "forward 2 in_flight 4, threads 1: a device needs 6,560 bytes, more than 4,960",
    ]


def test_what_the_compiler_refuses_is_a_rejection() -> None:
    found = searched(spaces={"in_flight": ("0", "2"), "stages": ("9",), "threads": ("1",)}, best=1)
    assert lines(found.rejected)[:2] == [
        "backward 1 in_flight 0, threads 1: AP105: expected at least 1 microbatch in flight, found 0 for stage 0 of 1",
        "in_flight 0, threads 1: AP105: expected at least 1 microbatch in flight, found 0 for stage 0 of 1",
    ]
    assert lines(found.rejected)[-1].endswith("the schedule has 9 stages, but the model has only 4 layers")


def test_synchronous_schedule_updates_as_often_as_the_file() -> None:
    found = searched(asked=["update.every=4"], spaces=ONE)
    assert found.synchronous[0].candidate.overrides == ("stages=1", "update.every=4")


def test_one_stream_has_no_counts_to_search() -> None:
    assert {plan.counts for plan in searched("sgd").planned} == {"1"}


def test_layers_that_cannot_be_cut_are_planned_as_measured_together() -> None:
    tied = costs()
    for times in tied["alone"].values():
        times["layers"] = None
    profile = read_profile(tied)
    assert not profile.knows_layers
    found = searched(profile=profile, spaces={"stages": ("2",), "threads": ("1",)})
    assert lines(found.planned)[0] == "as in the file, threads 1: 5161"
    assert [plan.speed for plan in found.planned if plan.stages == 2] == [None] * 6


def test_contention_seen_in_the_files_own_setting_is_planned_for_others() -> None:
    slow = costs()
    slow["together"] = {op: [1.25 * seconds for seconds in times] for op, times in slow["together"].items()}
    found = searched(profile=read_profile(slow), spaces={"stages": (), "threads": ("1",)})
    assert round(found.own.speed or 0) == round(5161.29 / 1.25)
    assert round(found.synchronous[0].speed or 0) == 2581


def test_periods_and_shares_of_a_gpu_are_tried_on_the_most_promising_setting() -> None:
    """A microbatch of 12 ms on a GPU of 132 multiprocessors; no plan tells what periods and shares are worth."""
    found = costs()
    found["alone"] = {"1": {"whole_s": 0.012, "layers": None, "whole": None, "hand_over": 0.0}}
    profile = read_profile({**found, "together": None, "multiprocessors": 132})
    schedule, own = load("async-lu"), Candidate("async-lu")
    space = narrowed(default_space(schedule, Machine(2, True, True), 4, False), {**ONE, "period": ("8", "16", "32")})
    planner = Planner(profile, Limits(), (), None)
    plans = search(own, schedule, space, own_values(schedule, False), planner, 1, profile.multiprocessors)
    assert [plan.candidate.words for plan in plans.finalists] == [
        "as in the file",
        "sgd stages 1",
        "backward 1 in_flight 2",
        "as in the file, period 16",
        "as in the file, period 32",
        "streams.forward.sms 32 streams.backward.sms 48",
        "streams.forward.sms 40 streams.backward.sms 40",
        "streams.forward.sms 64 streams.backward.sms 32",
    ]
    assert [round(plan.speed or 0) for plan in (plans.own, *plans.synchronous)] == [8000, 2667]


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("streams.backward.count=1..3", ("1", "2", "3")),
        ("in_flight=2,S + 1", ("2", "S + 1")),
        ("streams.ratio=1:1,2:3", ("1:1", "2:3")),
        ("threads=4", ("4",)),
    ],
)
def test_space_is_a_range_or_a_list(text: str, values: Values) -> None:
    assert read_spaces([text]) == {text.partition("=")[0]: values}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("foo", "--space 'foo': expected a key, =, and values"),
        ("threads=", "--space 'threads=': expected a key, =, and values"),
        ("threads=3..1", "--space 'threads=3..1': expected 1 to 64 values, found 0"),
        ("in_flight=1..99", "--space 'in_flight=1..99': expected 1 to 64 values, found 99"),
        ("threads=two", "--space 'threads=two': expected a whole number of at least 1, found 'two'"),
        ("streams.a.count=0", "--space 'streams.a.count=0': expected a whole number of at least 1, found '0'"),
        ("streams.ratio=2", "--space 'streams.ratio=2': expected a ratio such as 1:2, found '2'"),
    ],
)
def test_space_that_cannot_be_read_says_what_was_expected(text: str, message: str) -> None:
    with pytest.raises(UsageError) as error:
        read_spaces([text])
    assert error.value.message == message

"""Rounds on a machine whose speeds are known: who is measured how often, and what the answer is."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from asyncpipe.errors import HangError, InternalError, MachineError, UserCodeError
from asyncpipe.schedule import load
from asyncpipe.tools.tune.planning import Limits
from asyncpipe.tools.tune.request import Request
from asyncpipe.tools.tune.space import Values
from asyncpipe.tools.tune.tune import Asked, Tuning, tune
from asyncpipe.tools.tune.verdict import standing
from tests.tools.tune.pretended import Answer, Machine, Speeds, make_trials, request

SPACES: dict[str, Values] = {
    "streams.forward.count": ("1",),
    "streams.backward.count": ("1", "2"),
    "in_flight": ("3", "4"),
    "stages": (),
    "threads": ("1",),
}


def tuned(folder: Path, speeds: Speeds, limits: Limits | None = None, depths: Values = ("3", "4")) -> Tuning:
    trials = make_trials(Machine(speeds), folder)
    asked = Asked({**SPACES, "in_flight": depths}, limits or Limits(), best=2, repeats=5, cores=2)
    return tune(load("async-lu"), trials, asked, lambda text: None)


def by_schedule(own: float, synchronous: float, others: float) -> Callable[[Request], float]:
    def speed(asked: Request) -> float:
        return synchronous if asked.schedule == "sgd" else others if asked.overrides else own

    return speed


def table(tuning: Tuning) -> dict[str, str]:
    return {c.plan.candidate.title: standing(c, tuning.verdict) for c in tuning.contenders}


def test_faster_setting_wins_with_its_gain(tmp_path: Path) -> None:
    found = tuned(tmp_path, by_schedule(own=1000, synchronous=600, others=1200))
    assert found.verdict.answer == "backward 1, threads 1, 1.21x the file's own setting (1.20 to 1.21)"
    assert table(found) == {
        "as in the file": "17 % slower",
        "sgd stages 1": "50 % slower",
        "in_flight 4": "tie",
        "backward 1": "best",
    }


def test_synchronous_is_a_valid_answer(tmp_path: Path) -> None:
    found = tuned(tmp_path, by_schedule(own=1000, synchronous=1500, others=1000))
    assert found.verdict.answer.startswith("synchronous is fastest here: sgd stages 1, threads 1, 1.50x the file's")
    assert table(found)["as in the file"] == "33 % slower"


def test_of_ties_the_one_with_the_least_staleness_and_the_fewest_streams_is_chosen(tmp_path: Path) -> None:
    found = tuned(tmp_path, by_schedule(own=1000, synchronous=1000, others=1000))
    assert found.verdict.answer.startswith("nothing is faster than synchronous here: sgd stages 1, threads 1, 1.00x")
    assert set(table(found).values()) == {"best", "tie"}


def test_much_slower_one_is_not_chosen_for_being_simpler_however_noisy_it_is(tmp_path: Path) -> None:
    """One lucky round of three leaves 1 within the interval, and four fifths is what it is worth."""
    lucky = iter([1.05, 0.8, 0.8])

    def speed(asked: Request) -> float:
        return 1000 * next(lucky) if asked.schedule == "sgd" else 1000

    asked = Asked(SPACES, Limits(), best=0, repeats=3, cores=2)
    found = tune(load("async-lu"), make_trials(Machine(speed), tmp_path), asked, lambda text: None)
    assert table(found) == {"as in the file": "best", "sgd stages 1": "tie"}


def test_own_setting_is_the_answer_where_nothing_is_faster(tmp_path: Path) -> None:
    found = tuned(tmp_path, by_schedule(own=1000, synchronous=700, others=800))
    assert found.verdict.answer == "the file's own setting: nothing that was measured is faster"
    assert found.verdict.gain is not None
    assert found.verdict.gain.value == 1.0


def test_difference_of_less_than_one_per_cent_is_a_tie_however_sure(tmp_path: Path) -> None:
    trials = make_trials(Machine(by_schedule(own=1000, synchronous=993, others=500), noise=0), tmp_path)
    found = tune(load("async-lu"), trials, Asked(SPACES, Limits(), best=1, cores=2), lambda text: None)
    assert found.verdict.best.plan.candidate.is_synchronous


def test_setting_that_is_clearly_slower_leaves_after_three_rounds(tmp_path: Path) -> None:
    found = tuned(tmp_path, by_schedule(own=1000, synchronous=600, others=1200))
    assert {c.plan.candidate.title: len(c.rounds) for c in found.contenders} == {
        "as in the file": 3,
        "sgd stages 1": 3,
        "in_flight 4": 5,
        "backward 1": 5,
    }


def test_order_of_the_trials_turns_around_from_round_to_round(tmp_path: Path) -> None:
    machine = Machine(by_schedule(own=1000, synchronous=1000, others=1000))
    asked = Asked(SPACES, Limits(), best=0, repeats=3, cores=2)
    tune(load("async-lu"), make_trials(machine, tmp_path), asked, lambda text: None)
    assert [one.schedule for one in machine.asked[1:]] == ["async-lu", "sgd", "sgd", "async-lu", "async-lu", "sgd"]


def test_failing_trial_is_out_at_once_and_the_rest_goes_on(tmp_path: Path) -> None:
    failure = {"failed": "out of memory", "exit_code": 8, "reason": "can't allocate memory"}

    def speed(asked: Request) -> Answer:
        return failure if "in_flight=4" in asked.overrides else by_schedule(1000, 600, 900)(asked)

    found = tuned(tmp_path, speed)
    assert table(found)["in_flight 4"] == "out of memory (exit 8): can't allocate memory"
    assert table(found)["as in the file"] == "best"


def test_own_setting_may_fail_in_its_trials(tmp_path: Path) -> None:
    hang = {"failed": "hang", "exit_code": None, "reason": "no result within 60 s; the process was ended"}

    def speed(asked: Request) -> Answer:
        return 500.0 if asked.schedule == "sgd" else 700.0 if asked.overrides else hang

    found = tuned(tmp_path, speed)
    assert found.verdict.answer == "backward 1, threads 1; the file's own setting failed"
    assert table(found)["as in the file"] == "hang: no result within 60 s; the process was ended"


@pytest.mark.parametrize(
    ("failed", "code", "kind"),
    [
        ("user code", 5, UserCodeError),
        ("hang", None, HangError),
        ("killed", -9, MachineError),
        ("a bug in asyncpipe", 1, InternalError),
    ],
)
def test_profile_that_fails_ends_the_tuning_as_a_run_would_end(
    tmp_path: Path, failed: str, code: int | None, kind: type[Exception]
) -> None:
    machine = Machine(lambda asked: 1.0, {"failed": failed, "exit_code": code, "reason": "boom"})
    with pytest.raises(kind, match=f"the file's own setting cannot be measured: {failed}: boom"):
        tune(load("async-lu"), make_trials(machine, tmp_path), Asked(SPACES, Limits(), cores=2), lambda text: None)
    assert not (tmp_path / "trials.jsonl").exists()  # the next try asks again


def test_setting_beyond_a_limit_is_measured_for_comparison_only(tmp_path: Path) -> None:
    found = tuned(tmp_path, by_schedule(own=2000, synchronous=600, others=1200), Limits(staleness=1), ("2",))
    assert found.verdict.best.plan.candidate.title == "backward 1 in_flight 2"
    assert table(found)["as in the file"] == "for comparison: staleness 2 is above 1"


def test_killed_tuning_goes_on_without_repeating_a_trial(tmp_path: Path) -> None:
    speeds = by_schedule(own=1000, synchronous=990, others=1005)
    whole = Machine(speeds)
    tune(load("async-lu"), make_trials(whole, tmp_path / "whole"), Asked(SPACES, Limits(), cores=2), lambda text: None)

    class Stopped(Machine):
        def __call__(self, asked: Request, timeout: float) -> dict[str, Any]:
            if len(self.asked) == 7:
                raise KeyboardInterrupt
            return super().__call__(asked, timeout)

    first = Stopped(speeds)
    with pytest.raises(KeyboardInterrupt):
        tune(load("async-lu"), make_trials(first, tmp_path), Asked(SPACES, Limits(), cores=2), lambda text: None)
    with (tmp_path / "trials.jsonl").open("a") as file:
        file.write('{"key": {"round": 0}, "resu')  # it died while it wrote
    second = Machine(speeds)
    found = tune(load("async-lu"), make_trials(second, tmp_path), Asked(SPACES, Limits(), cores=2), lambda text: None)
    assert [*first.asked, *second.asked] == whole.asked
    assert found.trials.ran == len(second.asked)


def test_trial_of_another_machine_or_with_other_seconds_counts_for_nothing(tmp_path: Path) -> None:
    def ran(**changes: Any) -> int:
        trials = make_trials(Machine(lambda asked: 1000.0), tmp_path, request(**changes))
        tune(load("async-lu"), trials, Asked(SPACES, Limits(), best=0, repeats=1, cores=2), lambda text: None)
        return trials.ran

    assert [ran(), ran(), ran(seconds=3.0), ran(overrides=("job.train.batch=16",)), ran()] == [3, 0, 3, 3, 0]


def test_trial_that_failed_is_known_too_unless_it_is_to_be_tried_again(tmp_path: Path) -> None:
    failure = {"failed": "killed", "exit_code": -9, "reason": "by SIGKILL"}
    machine = Machine(lambda asked: 500.0 if asked.schedule == "sgd" else failure)
    for retries, ran in ((False, 3), (False, 0), (True, 1)):
        trials = make_trials(machine, tmp_path)
        trials.retries = retries
        tune(load("async-lu"), trials, Asked(SPACES, Limits(), best=0, repeats=1, cores=2), lambda text: None)
        assert trials.ran == ran

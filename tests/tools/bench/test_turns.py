"""Turns: every contender has as many, in rotating order; who fails is out with the reason, and costs no other."""

from __future__ import annotations

import threading
import time
from dataclasses import replace
from itertools import count

import pytest
import torch
from torch import Tensor, nn

from asyncpipe.errors import UsageError
from asyncpipe.tools.bench.catalogue import CONTENDERS, Kind
from asyncpipe.tools.bench.contender import Losses
from asyncpipe.tools.bench.problem import Batch, Problem
from asyncpipe.tools.bench.setting import Pace
from asyncpipe.tools.bench.turns import Turns, reason_of, run_turns
from asyncpipe.tools.bench.workloads import WORKLOADS

PROBLEM = Problem(WORKLOADS["cpu-mlp"].reduced(), torch.device("cpu"))
PACE = Pace(60.0, rounds=3, most_rounds=3, updates=5)


class Halving:
    """Its loss halves with each update; it fails in the update that `fails` names."""

    def __init__(self, log: list[str], name: str, fails: int | None = None) -> None:
        self.log, self.name, self.fails, self.made = log, name, fails, 0

    def train(self, updates: int, keep: Losses | None = None) -> None:
        self.log.append(self.name)
        for _ in range(updates):
            self.made += 1
            if self.made == self.fails:
                raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB\nand so on")
            if keep is not None:
                keep.append(Tensor([2.0**-self.made]))


def kinds(log: list[str], **fails: int | None) -> list[Kind]:
    def kind(name: str, at: int | None) -> Kind:
        return Kind("E", name, lambda problem: Halving(log, name, at))

    return [kind(name, at) for name, at in fails.items()]


def run(log: list[str], pace: Pace = PACE, **fails: int | None) -> Turns:
    return run_turns(PROBLEM, kinds(log, **fails), pace)


def test_the_order_of_turns_rotates() -> None:
    log: list[str] = []
    turns = run(log, a=None, b=None, c=None)
    assert "".join(log) == "abc" + "abc" + "bca" + "cab"  # first updates, then three rounds
    assert {name: len(seconds) for name, seconds in turns.seconds.items()} == {"a": 3, "b": 3, "c": 3}
    assert turns.losses["b"] == [2.0**-n for n in range(1, 41)]


def test_who_fails_is_out_and_the_others_go_on() -> None:
    log: list[str] = []
    turns = run(log, a=None, early=7, late=52)
    assert turns.missing == {"early": "out of memory", "late": "out of memory"}
    assert list(turns.seconds) == ["a"]
    assert len(turns.seconds["a"]) == 3


def test_large_workloads_are_measured_one_after_another() -> None:
    log: list[str] = []
    large = Problem(replace(PROBLEM.workload, alone=True), PROBLEM.device)
    turns = run_turns(large, kinds(log, a=None, b=None), PACE)
    assert "".join(log) == "aaaabbbb"
    assert not turns.interleaved


def test_turns_without_a_stated_length_fill_their_time() -> None:
    ticks = count()
    log: list[str] = []
    pace = Pace(200.0, rounds=2, most_rounds=50, updates=5)
    turns = run_turns(PROBLEM, kinds(log, a=None), pace, clock=lambda: float(10 * next(ticks)))
    # Each look at the clock takes ten seconds: after the first two rounds there is one for each.
    assert 2 < len(turns.seconds["a"]) < 50


def test_what_is_built_too_late_says_so() -> None:
    log: list[str] = []
    found = run(log, replace(PACE, seconds=0.0), a=None)
    assert (found.missing, log) == ({"a": "must be built, and 0 s were left; give a larger --budget"}, [])


def test_more_time_can_be_given_when_all_is_built() -> None:
    log: list[str] = []
    calls: list[str] = []

    def built() -> float:
        calls.append("".join(log))
        return 60.0

    run_turns(PROBLEM, kinds(log, a=None, b=None), PACE, built)
    assert calls == ["ab"]


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (torch.OutOfMemoryError("CUDA out of memory"), "out of memory"),
        (UsageError("no such thing", "do this"), "no such thing"),
        (RuntimeError("first line\nsecond line"), "RuntimeError: first line"),
        (AssertionError(), "AssertionError"),
    ],
)
def test_a_reason_is_one_line(error: Exception, reason: str) -> None:
    assert reason_of(error) == reason


def test_who_takes_too_long_to_build_is_out() -> None:
    def never(problem: Problem) -> Halving:
        threading.Event().wait(30)
        raise AssertionError("the alarm did not ring")

    log: list[str] = []
    slow = Kind("C", "slow", never, compile_seconds=20)
    turns = run_turns(PROBLEM, [slow, *kinds(log, a=None)], replace(PACE, seconds=0.2))
    assert list(turns.seconds) == ["a"]
    assert turns.missing == {"slow": "was not built within 0 s; give a larger --budget"}


class Slow(Problem):
    """A twentieth of a second for each loss."""

    def loss(self, model: nn.Module, batch: Batch) -> Tensor:
        time.sleep(0.05)
        return super().loss(model, batch)


@pytest.mark.parametrize("name", ["naive threads, 1 to 2", "2 threads, half a batch each"])
def test_threads_of_a_contender_end_with_its_time(name: str) -> None:
    turns = run_turns(Slow(PROBLEM.workload, PROBLEM.device), [CONTENDERS[name]], replace(PACE, seconds=0.5))
    assert turns.missing == {name: "was not built within 0 s; give a larger --budget"}

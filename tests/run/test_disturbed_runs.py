"""`asyncpipe run` with delays, with a record, and as a replay."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.command_line import Outcome, invoke

SHORT = ("--stages", "3", "--steps", "6", "--measure-every", "0")


@pytest.fixture(autouse=True)
def in_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def run(*args: str) -> Outcome:
    return invoke("run", *args)


def summary(*args: str) -> dict[str, Any]:
    done = run(*args, "--json")
    assert done.code == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def test_a_delay_is_in_the_virtual_time_and_in_the_summary() -> None:
    result = summary("sgd", "--backend", "serial", *SHORT, "--delay", "*=2T", "--straggler", "*=2")
    assert result["virtual"]["time_T"] == 6 * (3 * 2 + 2)
    assert result["virtual_time"] == 6 * (3 * 2 + 2) * result["virtual"]["forward_cost"]
    assert (result["delays"], result["stragglers"]) == (["*=2T"], ["*=2"])


def test_random_delays_follow_from_the_seed_of_the_run() -> None:
    args = ("async-lu", "--backend", "serial", *SHORT, "--delay", "backward[0]=exponential(1T)")
    times = [summary(*args, "--seed", seed)["virtual_time"] for seed in ("1", "1", "2")]
    assert times[0] == times[1] != times[2]


def test_a_delay_on_threads_is_slept() -> None:
    result = summary("sgd", "--backend", "threads", *SHORT, "--delay", "*=10ms")
    assert result["train_s"] >= 6 * 0.01
    assert (result["virtual"], result["forward_s"]) == (None, None)


@pytest.mark.parametrize(
    ("option", "message"),
    [
        (("--delay", "forwards=1"), "forwards: async-lu has no such stream\n  help: did you mean 'forward'?"),
        (("--delay", "forward"), "expected a stream, =, and a value"),
        (("--delay", "forward=1x"), "expected a number of at least 0 or a distribution, found '1x'"),
        (("--delay", "forward=1s", "--backend", "serial"), "virtual time has no seconds"),
        (("--straggler", "forward=0.5"), "a thread cannot be faster than it is"),
        (("--replay", "nope.log"), "nope.log: no such file\n  help: give interleaving.log of a run with `--record`"),
        (("--replay", "."), ".: a folder without interleaving.log: its run was not recorded"),
        (("--replay", "empty.log"), "empty.log: the log is empty"),
        (("--replay", "picture.log"), "picture.log: expected text, found other bytes"),
    ],
)
def test_a_wrong_option_is_refused_before_anything_is_made(option: tuple[str, ...], message: str) -> None:
    Path("empty.log").touch()
    Path("picture.log").write_bytes(b"\x89PNG")
    done = run("async-lu", *option)
    assert done.code == 2
    assert message in done.stderr
    assert not Path("runs").exists()


def test_a_replay_takes_everything_from_the_log_and_its_folder() -> None:
    options = ("--seed", "5", "-o", "job.optimizer.lr=0.01", "--out", "first", "--record")
    first = summary("pipedream", "--backend", "threads", *SHORT, *options)
    log = Path("first/interleaving.log")
    assert first["record"] == {"log": str(log), "possible_races": 0}
    again = summary("--replay", str(log), "--measure-every", "0")
    assert again["params_sha256"] == first["params_sha256"]
    assert (again["backend"], again["steps"], again["seed"]) == ("serial", 6, 5)
    assert (again["replay"]["same_parameters"], again["replay"]["possible_races"]) == (True, 0)
    said = run("--replay", "first")
    assert "the recorded parameters, bit for bit; no actions overlapped" in said.stdout


def test_a_replay_of_something_else_names_the_line_of_the_log() -> None:
    summary("async-lu", "--backend", "serial", *SHORT, "--record-to", "lu.log", "--seed", "5")
    log = ("--replay", "lu.log", "--measure-every", "0")
    for options, message in (
        (("hogwild",), "lu.log:2: the log is of schedule async-lu, this run has hogwild"),
        (("async-lu", "--stages", "2"), "lu.log:6: the log is of stages 3, this run has 2"),
        (("async-lu", "--seed", "6"), "lu.log:12: the recorded run began with other parameters"),
        (("async-lu", "--steps", "7"), "lu.log:12: the log has 6 microbatches here, this run 7"),
        (("async-lu", "--backend", "threads"), "--replay and --backend threads exclude each other"),
        (("async-lu", "--delay", "*=1"), "--replay and --delay exclude each other"),
        (("async-lu", "--record"), "--replay and --record exclude each other"),
    ):
        done = run(*options, *log)
        assert done.code == 2
        assert message in done.stderr

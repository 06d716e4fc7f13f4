"""`tools profile` for real: a short training, whose folder the other commands read."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from asyncpipe.runtime.threads import usable_cores
from tests.command_line import invoke

OPTIONS = ("--seconds", "0.05", "--stages", "2", "-o", "job.model={use: mlp, hidden: [16]}", "-o", "job.train.batch=8")


def profiled(schedule: str, folder: Path, *more: str) -> dict[str, Any]:
    outcome = invoke("tools", "profile", schedule, *OPTIONS, *more, "--out", str(folder), "--json")
    assert outcome.code == 0, outcome.stderr
    assert outcome.stderr == f"wrote {folder}\n"
    found: dict[str, Any] = json.loads(outcome.stdout)
    return found


def test_training_on_threads_is_measured_and_read_by_the_other_commands(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    found = profiled("async-lu", Path("run"))
    assert (found["schema"], found["backend"], found["stages"]) == ("asyncpipe.profile/1", "threads", 2)
    assert found["workers"] == min(3, usable_cores())
    assert found["period_s"] * found["samples_per_s"] == pytest.approx(8)
    assert all(len(times) == 2 and min(times) > 0 for times in found["costs"].values())
    assert found["beta"]["all"] == pytest.approx(sum(found["costs"]["B"]) / sum(found["costs"]["F"]))
    for stream in found["streams"]:
        parts = ("busy_s", "waiting_s", "no_worker_s", "dispatch_s", "ends_s")
        assert sum(stream[part] for part in parts) == pytest.approx(found["wall_s"])
    assert all(sum(shares.values()) == pytest.approx(1) for shares in found["in_flight"])
    assert [sum(counts.values()) for counts in found["staleness"]["histogram"]] == [found["microbatches"]] * 2
    assert 0 < found["efficiency"]["mfu"] < 1
    assert 0 < found["stopwatch"]["action_s"] < 1e-3
    assert sorted(path.name for path in Path("run").iterdir()) == [
        *("env.json", "metrics.jsonl", "profile.json", "resolved.yaml", "schedule.yaml", "timeline.csv")
    ]
    assert invoke("check", "sgd", "--stages", "2", "--costs", "run/profile.json").code == 0
    picture = invoke("show", "run/resolved.yaml", "--compare", "run", "--width", "100")
    assert picture.stdout.splitlines()[-1].startswith("measured "), picture.stderr


def test_serial_has_one_worker_and_the_period_of_its_work(tmp_path: Path) -> None:
    found = profiled("sgd", tmp_path / "run", "--backend", "serial", "--seed", "3")
    assert (found["workers"], found["costs_alone"], found["contention"], found["seed"]) == (1, None, {}, 3)
    assert found["predicted"]["period_s"] > 0


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["--steps", "2", "--seconds", "1"], 2, "error: --steps and --seconds exclude each other\n"),
        (["--steps", "1"], 2, "error: --steps 1: too few for a steady state of async-lu\n  help: use at least "),
        (["--backend", "gpu"], 2, "Usage: "),
        (["--job", "nowhere"], 2, "error: no job named 'nowhere'"),
    ],
)
def test_what_cannot_be_profiled_is_refused(arguments: list[str], code: int, message: str, tmp_path: Path) -> None:
    outcome = invoke("tools", "profile", "async-lu", *arguments, "--out", str(tmp_path / "run"))
    assert (outcome.code, outcome.stdout) == (code, "")
    assert message in outcome.stderr
    assert not (tmp_path / "run").exists()

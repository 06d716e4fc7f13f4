"""metrics.jsonl while a run goes, and the run directory around it."""

from __future__ import annotations

import json
import resource
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from torch import Tensor

from asyncpipe.errors import NumericalError, Report
from asyncpipe.schedule import load
from asyncpipe.schedule.job import read_job
from asyncpipe.training import TrainingRun
from asyncpipe.training.directory import RunDirectory
from asyncpipe.training.metrics import MetricsLog
from asyncpipe.training.trainer import Trainer
from tests.command_line import invoke
from tests.networks import batches, built


def rows(folder: Path, kind: str = "") -> list[dict[str, Any]]:
    found = [json.loads(line) for line in (folder / "metrics.jsonl").read_text("utf-8").splitlines()]
    return [row for row in found if kind in ("", row["kind"])]


def test_rows_are_in_the_file_while_the_run_goes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("asyncpipe.runtime.serial._POLL_SECONDS", 0.0)
    trainer = Trainer(built("mlp"), "async-lu", backend="serial", stages=3, measure_every=4)
    seen: list[int] = []

    def data() -> Iterator[tuple[Tensor, Tensor]]:
        for batch in batches(20):
            seen.append(len(rows(tmp_path / "run", "microbatch")))
            yield batch

    with RunDirectory(str(tmp_path / "run"), "x") as directory:
        trainer.fit(data(), 20, MetricsLog(directory, trainer, 7).poll)
        found = rows(directory.path)
    assert seen[0] == 0
    assert all(i - 2 <= written <= i for i, written in enumerate(seen))
    assert [row["microbatch"] for row in found if row["kind"] == "microbatch"] == list(range(20))
    assert sum(row["kind"] == "divergence" for row in found) == 5 * 3


def test_a_run_that_fails_keeps_its_rows(tmp_path: Path) -> None:
    spec = read_job(None, Report(), ["job.optimizer.lr=1e30"])
    assert spec is not None
    run = TrainingRun(load("sgd"), spec, "serial", None, None, 1, None, (), True)
    with pytest.raises(NumericalError):
        run.execute(str(tmp_path / "run"), {})
    found = rows(tmp_path / "run")
    assert 0 < len(found) < 45
    assert {row["kind"] for row in found} == {"microbatch"}
    assert not (tmp_path / "run" / "summary.json").exists()


def test_a_full_disk_is_told_and_keeps_the_rows_before_it(tmp_path: Path) -> None:
    least, most = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, most))
    try:
        outcome = invoke("run", "sgd", "--backend", "serial", "--epochs", "1", "--out", str(tmp_path / "run"))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (least, most))
    said = f"{tmp_path / 'run'}: cannot be written: File too large"
    assert (outcome.code, outcome.stdout) == (4, "")
    assert outcome.stderr.endswith(f"error: {said}\n  help: make room, or write to another disk\n")
    files = {path.name: path.read_text() for path in (tmp_path / "run").iterdir()}
    assert files.keys() == {"schedule.yaml", "resolved.yaml", "env.json", "run.json", "metrics.jsonl", "error.json"}
    assert (json.loads(files["error.json"])["kind"], len(files["metrics.jsonl"])) == ("MachineError", 4096)


def test_times_and_samples_go_on_after_an_evaluation(tmp_path: Path) -> None:
    spec = read_job(None, Report())
    assert spec is not None
    run = TrainingRun(load("ddp"), spec, "serial", 2, None, 2, 3, (), True, target=0.99)
    summary = run.execute(str(tmp_path / "run"), {})
    found = rows(tmp_path / "run", "microbatch")
    assert [row["samples"] for row in found] == [32 * (i + 1) for i in range(len(found))]
    replicas = load("ddp").replicas.count
    assert [row["step"] for row in found] == [row["microbatch"] // replicas for row in found]
    for key in ("train_s", "virtual_time"):
        own = [row[key] for row in found if row["microbatch"] % replicas == 0]
        assert own == sorted(own)
    ends = rows(tmp_path / "run", "evaluation")
    assert ends[-1]["virtual_time"] == summary["virtual_time"] == 2 * ends[0]["virtual_time"]
    assert ends[-1]["train_s"] == summary["train_s"]
    assert summary["best"]["accuracy"] == max(row["accuracy"] for row in ends)
    assert summary["target"] == {"accuracy": 0.99, "reached": None}
    assert "test accuracy 99 % was not reached\n" in run.result_text(summary)
    assert "weights move" not in run.result_text(summary)
    assert summary["seed"] == 3


def test_staleness_rows_add_up_to_the_summary(tmp_path: Path) -> None:
    spec = read_job(None, Report())
    assert spec is not None
    run = TrainingRun(load("async-lu"), spec, "serial", 3, None, 2, None, (), True, 20, 0.05)
    summary = run.execute(str(tmp_path / "run"), {})
    assert summary["target"]["reached"]["step"] == 45
    assert "test accuracy 5 % after 1440 samples, " in run.result_text(summary)
    assert "weights move between forward and backward by 0.0" in run.result_text(summary)
    first, second = (row["histogram"] for row in rows(tmp_path / "run", "staleness"))
    for stage, whole in enumerate(summary["staleness_measured"]["histogram"]):
        keys = first[stage].keys() | second[stage].keys()
        assert whole == {key: first[stage].get(key, 0) + second[stage].get(key, 0) for key in keys}


def test_runs_that_start_together_have_folders_of_their_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)

    def made(_: int) -> Path:
        with RunDirectory(None, "same name") as directory:
            return directory.path

    with ThreadPoolExecutor(8) as threads:
        paths = list(threads.map(made, range(32)))
    assert len(set(paths)) == 32
    assert all(path.parent == Path("runs") and path.name.startswith("same-name-2") for path in paths)

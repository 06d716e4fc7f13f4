"""`asyncpipe run` from end to end, in process: results, run directory, exit codes."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from asyncpipe.cli import cli
from asyncpipe.cli.failures import exit_code_of

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Runs the command line in an empty folder: (exit code, stdout, stderr)."""
    monkeypatch.chdir(tmp_path)

    def call(*args: str) -> tuple[int, str, str]:
        code = exit_code_of(lambda: cli.main(["run", *args], standalone_mode=False))
        out, err = capsys.readouterr()
        return code, out, err

    return call


def summary(run: Run, *args: str) -> dict[str, Any]:
    code, out, err = run(*args, "--json")
    assert code == 0, err
    assert err == ""
    document: dict[str, Any] = json.loads(out)
    return document


def test_a_rate_that_staleness_may_make_unstable_is_warned_of_before_training(run: Run) -> None:
    code, _, err = run("pd-asgd-devices", "--steps", "1", "--backend", "serial")
    assert code == 0
    assert ":5:18: warning[AP507]: stage 0, with a staleness of 2 and a momentum of 0.5, is stable at no lr" in err
    assert err.index("warning[AP507]") < err.index("epoch ")


CONTRACT = {"schema", "schedule", "backend", "device", "steps", "samples", "wall_s", "samples_per_s", "train_loss"}
CONTRACT |= {"eval", "staleness_measured", "params_sha256", "out"}


def test_the_default_run_trains_and_fills_its_directory(run: Run) -> None:
    result = summary(run, "--epochs", "2", "--out", "first")
    assert result.keys() >= CONTRACT
    assert (result["schema"], result["schedule"], result["backend"]) == ("asyncpipe.run/1", "async-lu", "threads")
    assert (result["steps"], result["samples"]) == (90, 90 * 32)
    assert result["eval"]["accuracy"] > 0.8
    folder = Path("first")
    assert sorted(p.name for p in folder.iterdir()) == [
        "env.json",
        "metrics.jsonl",
        "resolved.yaml",
        "run.json",
        "schedule.yaml",
        "summary.json",
    ]
    assert json.loads((folder / "summary.json").read_text()) == result
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert [row["microbatch"] for row in rows if row["kind"] == "microbatch"] == list(range(90))
    assert [row["step"] for row in rows if row["kind"] == "evaluation"] == [45, 90]
    assert json.loads((folder / "env.json").read_text())["versions"]["torch"]


def test_the_resolved_file_repeats_the_run(run: Run) -> None:
    first = summary(run, "hogwild", "--backend", "serial", "--steps", "20", "-o", "job.optimizer.lr=0.02", "--out", "a")
    again = summary(run, "a/resolved.yaml", "--backend", "serial", "--steps", "20", "--out", "b")
    assert again["params_sha256"] == first["params_sha256"]
    assert Path("b/resolved.yaml").read_text() == Path("a/resolved.yaml").read_text()


def test_the_resolved_file_has_the_stages_and_the_name_of_the_job(run: Run) -> None:
    options = ("--backend", "serial", "--steps", "2")
    first = summary(run, "async-lu", *options, "--stages", "2", "--out", "a")
    again = summary(run, "a/resolved.yaml", *options, "--out", "b")
    assert (again["stages"], again["job"], again["params_sha256"]) == (2, "digits", first["params_sha256"])
    assert "\nstages: 2\n" in Path("a/resolved.yaml").read_text()


def test_serial_is_reproducible_and_the_seed_matters(run: Run) -> None:
    args = ("async-lu", "--backend", "serial", "--steps", "15", "--stages", "3")
    prints = [summary(run, *args, "--seed", seed)["params_sha256"] for seed in ("1", "1", "2")]
    assert prints[0] == prints[1] != prints[2]


def test_serial_and_threads_agree_on_plain_sgd(run: Run) -> None:
    args = ("sgd", "--steps", "12", "--stages", "2", "-o", "job.train.intra_op_threads=1")
    results = [summary(run, *args, "--backend", backend) for backend in ("serial", "threads")]
    assert results[0]["params_sha256"] == results[1]["params_sha256"]
    assert results[0]["staleness_measured"]["apply"] == [0.0, 0.0]


def test_progress_goes_to_stderr_and_the_result_to_stdout(run: Run) -> None:
    code, out, err = run("--epochs", "1", "--out", "plain")
    assert code == 0
    assert out.startswith("async-lu on digits, threads,")
    assert "run directory plain" in out
    assert err.startswith("epoch 1  loss ")
    assert "\r" not in err


def test_a_run_never_overwrites_another(run: Run) -> None:
    Path("old").mkdir()
    Path("old/keep").write_text("x")
    code, _, err = run("--out", "old", "--steps", "1")
    assert (code, err) == (2, "error: --out old: exists and is not an empty folder\n  help: name another folder\n")


def test_an_invalid_schedule_or_job_is_exit_code_3(run: Run) -> None:
    Path("bad.yaml").write_text("asyncpipe: 1\nstreams: {f: {runs: [F]}}\n")
    assert run("bad.yaml")[0] == 3
    code, _, err = run("-o", "job.train.bach=3")
    assert code == 3
    assert "unknown key 'bach' in train" in err
    assert "did you mean 'batch'?" in err
    assert not Path("runs").exists()


def test_missing_data_is_exit_code_4(run: Run) -> None:
    code, _, err = run("--job", "fashion-mnist", "-o", "job.data.root=nowhere")
    assert code == 4
    assert "train-images-idx3-ubyte" in err
    assert "nowhere" in err


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("job.model=convent", "convent"),
        ("job.model.chanels=[3]", "chanels"),
        ("job.optimizer.momentun=0.5", "momentun"),
        ("job.loss=cross_entopy", "did you mean 'cross_entropy'?"),
        ("job.data=digit", "digit"),
        ("job.train.lr.warmup=-1", "at least 0"),
    ],
)
def test_wrong_job_values_name_what_is_wrong(run: Run, override: str, message: str) -> None:
    code, _, err = run("-o", override, "--steps", "1")
    assert code in (2, 3)
    assert message in err
    assert "Traceback" not in err


OWN_JOB = """
model: {use: "./mine.py:make", width: 12}
data: digits
optimizer: {use: sgd, lr: 0.05}
train: {batch: 64, epochs: 1}
"""
OWN_CODE = """
from torch import nn
def make(width):
    return nn.Sequential(nn.Flatten(), nn.Linear(64, width), nn.ReLU(), nn.Linear(width, 10))
def broken(width):
    raise ValueError("no such width")
"""


def test_the_authors_code_runs_only_where_it_is_allowed(run: Run) -> None:
    Path("own.yaml").write_text(OWN_JOB)
    Path("mine.py").write_text(OWN_CODE)
    code, _, err = run("--job", "own.yaml", "--steps", "2")
    assert code == 2
    assert "own.yaml:2:14: ./mine.py:make runs code of its author" in err
    assert "add --allow mine.py" in err
    options = ("--steps", "2", "--backend", "serial")
    first = summary(run, "--job", "own.yaml", *options, "--allow", "./mine.py", "--out", "a/b")
    again = summary(run, "a/b/resolved.yaml", *options, "--allow", "mine.py")
    assert again["params_sha256"] == first["params_sha256"]


def test_an_error_in_the_authors_code_is_exit_code_5_with_its_line(run: Run) -> None:
    Path("own.yaml").write_text(OWN_JOB.replace(":make", ":broken"))
    Path("mine.py").write_text(OWN_CODE)
    code, _, err = run("--job", "own.yaml", "--allow", "./mine.py")
    assert code == 5
    assert "./mine.py:broken: ValueError: no such width" in err
    assert "mine.py:6" in err


def test_a_diverging_run_is_exit_code_6(run: Run) -> None:
    code, _, err = run("--backend", "serial", "-o", "job.optimizer.lr=1e30", "--epochs", "1")
    assert code == 6
    assert "lower the learning rate" in err


def test_steps_and_epochs_exclude_each_other(run: Run) -> None:
    assert run("--steps", "1", "--epochs", "1")[0] == 2


def test_a_schedule_file_may_hold_its_job(run: Run) -> None:
    text = "asyncpipe: 1\nname: both\nstreams: {main: {runs: [F, B, U]}}\nrules: ['F[0, m] after U[*, g-1]']\n"
    Path("both.yaml").write_text(text + "update: {every: 2}\njob: digits\n")
    result = summary(run, "both.yaml", "--steps", "5")
    assert (result["schedule"], result["steps"], result["samples"]) == ("both", 5, 320)

"""benchmarks/algorithms runs from start to JSON on digits; its closed forms are what the simulator states."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType

ROOT = Path(__file__).parents[2]
BENCHMARK = ROOT / "benchmarks" / "algorithms"


def load(name: str) -> ModuleType:
    """A module of the benchmark that imports none of its others."""
    spec = importlib.util.spec_from_file_location(f"algorithms_{name}", BENCHMARK / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, str(BENCHMARK / "main.py"), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, env=environment)


def test_a_smoke_run_makes_all_tables_with_closed_forms_as_the_simulator_has_them(tmp_path: Path) -> None:
    out = tmp_path / "results" / "algorithms.json"
    done = run("table", "delays", "--smoke", "--journal", str(tmp_path / "journal.jsonl"), "--out", str(out))
    assert done.returncode == 0, done.stdout + done.stderr
    assert "these numbers mean nothing" in done.stdout
    results = json.loads(out.read_text())["results"]
    assert results["table"]["rows"].keys() == {"sgd", "petra"}
    assert results["table"]["pair"]["own_lr"].keys() == {"async-lu", "async-bu"}
    points = [point for found in results["delays"]["points"].values() for point in found.values()]
    assert all(abs(point["simulated"] / point["closed_form"] - 1) < 1e-9 for point in points)


def test_a_journal_repeats_only_the_trial_whose_line_was_cut_off(tmp_path: Path) -> None:
    journal = load("journal")
    path = tmp_path / "journal.jsonl"
    found = [journal.Journal(path).get({"seed": seed}, lambda seed=seed: {"accuracy": seed / 2}) for seed in range(3)]
    path.write_text(path.read_text()[:-9])
    ran: list[int] = []

    def again(seed: int) -> dict[str, float]:
        ran.append(seed)
        return {"accuracy": seed / 2}

    resumed = journal.Journal(path)
    assert [resumed.get({"seed": seed}, lambda seed=seed: again(seed)) for seed in range(3)] == found
    assert ran == [2]
    assert len(path.read_text().splitlines()) == 3


def test_missing_data_is_told_without_a_traceback(tmp_path: Path) -> None:
    command = [sys.executable, str(ROOT / "benchmarks" / "algorithms" / "main.py"), "table", "--schedules", "sgd"]
    command += ["--data", str(tmp_path), "--journal", str(tmp_path / "journal.jsonl")]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 4
    assert done.stderr.startswith("error: data fashion-mnist needs the file")

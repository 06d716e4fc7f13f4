"""benchmarks/algorithms runs from start to JSON on digits; its closed forms are what the simulator states."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from types import ModuleType

from tests.benchmarks.scripts import BENCHMARKS, run_script


def load(name: str) -> ModuleType:
    """A module of the benchmark that imports none of its others."""
    spec = importlib.util.spec_from_file_location(f"algorithms_{name}", BENCHMARKS / "algorithms" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_a_smoke_run_makes_all_tables_with_closed_forms_as_the_simulator_has_them(tmp_path: Path) -> None:
    out = tmp_path / "results" / "algorithms.json"
    journal = str(tmp_path / "journal.jsonl")
    done = run_script("algorithms", "table", "delays", "--smoke", "--journal", journal, "--out", str(out))
    assert done.code == 0, done.stdout + done.stderr
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
    places = ("--data", str(tmp_path), "--journal", str(tmp_path / "journal.jsonl"))
    done = run_script("algorithms", "table", "--schedules", "sgd", *places)
    assert done.code == 4
    assert done.stderr.startswith("error: data fashion-mnist needs the file")

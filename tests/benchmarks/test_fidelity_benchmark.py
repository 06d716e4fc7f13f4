"""benchmarks/fidelity runs from start to JSON on two schedules."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
def test_two_schedules_are_predicted_and_measured(tmp_path: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    out = tmp_path / "fidelity.json"
    command = [sys.executable, str(ROOT / "benchmarks" / "fidelity" / "main.py"), "--smoke", "--out", str(out)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 0, done.stderr
    found = json.loads(out.read_text("utf-8"))
    assert [trial["schedule"] for trial in found["schedules"]] == ["sgd", "async-lu"]
    assert found["not_measured"] == {}
    for trial in found["schedules"]:
        assert len(trial["periods"]) == len(trial["predictions"]) == 2
        assert trial["error"] == pytest.approx(trial["predicted"] / trial["measured"] - 1)
        assert f"| {trial['schedule']} | " in done.stdout
    sequential = found["schedules"][0]
    assert sequential["workers"] == 1
    assert abs(sequential["own_error"]) < 0.2

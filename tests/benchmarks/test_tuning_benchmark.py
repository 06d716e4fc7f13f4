"""benchmarks/tuning runs from start to JSON on its smallest job."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
def test_smallest_job_is_tuned_and_its_answer_runs_side_by_side(tmp_path: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, str(ROOT / "benchmarks" / "tuning" / "main.py"), "--jobs", "small", "--seconds", "0.05"]
    command += ["--best", "0", "--repeats", "1", "--rounds", "2", "--work", str(tmp_path / "work")]
    command += ["--out", str(tmp_path / "tuning.json")]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 0, done.stderr
    found = json.loads((tmp_path / "tuning.json").read_text("utf-8"))["jobs"]["small"]
    assert found["tune"]["schema"] == "asyncpipe.tune/1"
    assert set(found["side_by_side"]["speed"]) == {"tuned", "default", "sync"}
    assert "| small | " in done.stdout

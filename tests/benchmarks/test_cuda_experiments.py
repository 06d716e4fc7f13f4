"""benchmarks/cuda_experiments without a GPU: it imports, lists what it would do, and refuses."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("triton", reason="two experiments have kernels in Triton")

ROOT = Path(__file__).parents[2]


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "CUDA_VISIBLE_DEVICES": ""}
    command = [sys.executable, str(ROOT / "benchmarks" / "cuda_experiments" / "main.py"), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, env=environment)


def test_every_experiment_is_listed_with_what_it_expects() -> None:
    done = run("--list")
    assert done.returncode == 0, done.stderr
    numbers = [line.split(".")[0] for line in done.stdout.splitlines() if not line.startswith(" ")]
    assert numbers == ["1", "2", "3", "4", "5", "6", "7", "8", "10"]
    assert done.stdout.count("expected: ") == len(numbers)


def test_without_a_gpu_they_say_so_and_exit_with_4() -> None:
    done = run()
    assert done.returncode == 4
    assert "needs an NVIDIA GPU" in done.stderr

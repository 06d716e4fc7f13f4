"""benchmarks/kernels runs from start to JSON without a GPU: tiny, interpreted, and without claims."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("triton", reason="the kernels are written in Triton")

ROOT = Path(__file__).parents[2]


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "CUDA_VISIBLE_DEVICES": ""}
    command = [sys.executable, str(ROOT / "benchmarks" / "kernels" / "main.py"), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, env=environment)


def updates_lost(results: dict[str, Any]) -> list[int]:
    modes = results["two writers"]["grids"]["full grid each"]
    return [modes[mode]["lost"] for mode in ("racy", "atomic", "ordered")]


def test_a_smoke_run_measures_every_part_and_claims_nothing(tmp_path: Path) -> None:
    out = tmp_path / "results" / "kernels.json"
    done = run("--smoke", "--out", str(out))
    assert done.returncode == 0, done.stdout + done.stderr
    assert "the times above mean nothing" in done.stdout
    document = json.loads(out.read_text())
    assert (document["smoke"], document["goals"], document["not_measured"]) == (True, [], [])
    results = document["results"]
    assert {name.split(",")[0] for name in results} >= {
        f"update {o}" for o in ("sgd", "adam", "adamw", "nadam", "lion")
    }
    assert {result["storage"] for name, result in results.items() if name.startswith("update")} == {
        "fp32",
        "bf16 + fp32 master",
        "bf16 stochastic",
    }
    assert {"flat", "table", "torch fused", "torch foreach", "torch for-loop"} == set(
        results["update sgd, fp32, tiny"]["contenders"]
    )
    assert updates_lost(results) == [0, 0, 0]


def test_without_a_gpu_it_says_so_and_exits_with_4() -> None:
    done = run()
    assert done.returncode == 4
    assert "needs an NVIDIA GPU" in done.stderr
    assert done.stdout == ""

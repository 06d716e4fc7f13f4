"""benchmarks/kernels runs from start to JSON without a GPU: tiny, interpreted, and without claims."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.benchmarks.scripts import run_script

pytest.importorskip("triton", reason="the kernels are written in Triton")


def updates_lost(results: dict[str, Any]) -> list[int]:
    modes = results["two writers"]["grids"]["full grid each"]
    return [modes[mode]["lost"] for mode in ("racy", "atomic", "ordered")]


def test_a_smoke_run_measures_every_part_and_claims_nothing(tmp_path: Path) -> None:
    out = tmp_path / "results" / "kernels.json"
    done = run_script("kernels", "--smoke", "--out", str(out))
    assert done.code == 0, done.stdout + done.stderr
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


def test_without_a_gpu_it_says_so_and_exits_with_4(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    done = run_script("kernels")
    assert done.code == 4
    assert "needs an NVIDIA GPU" in done.stderr
    assert done.stdout == ""

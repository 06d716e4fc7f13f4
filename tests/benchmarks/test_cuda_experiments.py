"""benchmarks/cuda_experiments without a GPU: it imports, lists what it would do, and refuses."""

from __future__ import annotations

import pytest
import torch

from tests.benchmarks.scripts import run_script

pytest.importorskip("triton", reason="two experiments have kernels in Triton")


def test_every_experiment_is_listed_with_what_it_expects() -> None:
    done = run_script("cuda_experiments", "--list")
    assert done.code == 0, done.stderr
    numbers = [line.split(".")[0] for line in done.stdout.splitlines() if not line.startswith(" ")]
    assert numbers == ["1", "2", "3", "4", "5", "6", "7", "8", "10"]
    assert done.stdout.count("expected: ") == len(numbers)


def test_without_a_gpu_they_say_so_and_exit_with_4(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    done = run_script("cuda_experiments")
    assert done.code == 4
    assert "needs an NVIDIA GPU" in done.stderr

"""The peers of `tools bench` on a real GPU: the synchronous ones compute what the eager loop computes."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

from asyncpipe.tools.bench.catalogue import CONTENDERS
from asyncpipe.tools.bench.contender import Losses, take
from asyncpipe.tools.bench.problem import Problem
from asyncpipe.tools.bench.workloads import WORKLOADS

pytestmark = pytest.mark.cuda

CAPTURED = ["CUDA graph", "CUDA graph, side streams", "asyncpipe sgd"]


@pytest.fixture(autouse=True)
def without_tf32() -> Iterator[None]:
    before = torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32
    torch.set_float32_matmul_precision("highest")
    torch.backends.cudnn.allow_tf32 = False
    yield
    torch.set_float32_matmul_precision(before[0])
    torch.backends.cudnn.allow_tf32 = before[1]


def losses_of(name: str, workload: str) -> list[float]:
    problem = Problem(WORKLOADS[workload].reduced(), torch.device("cuda"))
    kept: Losses = []
    CONTENDERS[name].make(problem).train(20, kept)
    problem.finish()
    return take(kept)[:8]


@pytest.mark.parametrize("workload", ["deep-narrow-100", "resnet18-b32", "imdb-lstm", "mixer"])
@pytest.mark.parametrize("name", CAPTURED)
def test_captured_contenders_compute_the_same(name: str, workload: str) -> None:
    assert losses_of(name, workload) == pytest.approx(losses_of("eager", workload), rel=1e-3)


@pytest.mark.parametrize("name", ["torch.compile reduce-overhead", "CUDA graph of Inductor's kernels"])
def test_compiled_contenders_compute_the_same(name: str) -> None:
    assert losses_of(name, "cpu-mlp") == pytest.approx(losses_of("eager", "cpu-mlp"), rel=1e-3)

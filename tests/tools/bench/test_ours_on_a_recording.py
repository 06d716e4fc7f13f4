"""asyncpipe's own contenders for a GPU, and the host's cost of a period, on a recording of CUDA."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from asyncpipe.runtime.cuda.recording.cuda import RecordingCuda
from asyncpipe.tools.bench.contender import Losses, take
from asyncpipe.tools.bench.eager import eager
from asyncpipe.tools.bench.host_cost import microseconds_per_period
from asyncpipe.tools.bench.ours import on_runtime
from asyncpipe.tools.bench.problem import Problem
from asyncpipe.tools.bench.workloads import WORKLOADS
from tests.runtime.cuda.recorded import SGD, constant_rate, traced_once

__all__ = ["constant_rate", "traced_once"]

pytestmark = pytest.mark.usefixtures("constant_rate", "traced_once")


def problem_of(name: str) -> Problem:
    """With the learning rate of the recorded trainings."""
    assert SGD["lr"] == 0.05
    workload = replace(WORKLOADS[name].reduced(), lr=0.05, channels_last=False)
    return Problem(workload, torch.device("cpu"))


@pytest.mark.parametrize("name", ["cpu-mlp", pytest.param("lstm-cell", marks=pytest.mark.slow)])
def test_captured_sgd_is_the_eager_loop(name: str) -> None:
    problem, found, expected = problem_of(name), Losses(), Losses()
    contender = on_runtime(problem, "sgd", RecordingCuda(), stages=2, period=2)
    for updates in (5, 4):  # a second run goes on where the first has ended
        contender.train(updates, found)
    eager(problem).train(9, expected)
    assert take(found) == pytest.approx(take(expected), rel=1e-5)


@pytest.mark.slow
def test_async_lu_learns_as_a_contender() -> None:
    problem, found = problem_of("cpu-mlp"), Losses()
    on_runtime(problem, "async-lu", RecordingCuda(), stages=2, period=2).train(24, found)
    assert len(found) == 24
    assert sum(take(found)[-6:]) < sum(take(found)[:6])


def test_a_period_costs_the_host_some_time() -> None:
    found = microseconds_per_period(problem_of("cpu-mlp"), "sgd", RecordingCuda(), periods=2, rounds=1, stages=2)
    assert 0 < found["low"] <= found["microseconds"] <= found["high"]

"""The peers of a GPU on a recording of CUDA: the captured step is the eager one, bit for bit and without a race."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from asyncpipe.runtime.cuda.api import Cuda
from asyncpipe.runtime.cuda.recording.cuda import RecordingCuda
from asyncpipe.runtime.cuda.recording.violation import Violation
from asyncpipe.tools.bench.captured import WholeStep, whole_step
from asyncpipe.tools.bench.contender import Losses, take
from asyncpipe.tools.bench.eager import eager
from asyncpipe.tools.bench.problem import Problem
from asyncpipe.tools.bench.side_streams import _Sides, side_streams
from asyncpipe.tools.bench.workloads import WORKLOADS

# Shapes of a capture come from torch's fake tensors, which look at the gradient of each tensor they copy.
pytestmark = pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf")

Make = Callable[[Problem, Cuda], WholeStep]
MAKES: dict[str, Make] = {"G": lambda problem, cuda: whole_step(problem, cuda, problem.loss), "S": side_streams}


def problem_of(name: str) -> Problem:
    return Problem(WORKLOADS[name].reduced(), torch.device("cpu"))


def losses_of(contender: Any) -> list[float]:
    kept: Losses = []
    contender.train(3, kept)
    return take(kept)


@pytest.mark.parametrize(
    "name", ["deep-narrow-100", pytest.param("cpu-convnet", marks=pytest.mark.slow), "resnet18-b32"]
)
@pytest.mark.parametrize("letter", MAKES)
def test_a_captured_step_is_the_eager_one(letter: str, name: str) -> None:
    problem = problem_of(name)
    assert losses_of(MAKES[letter](problem, RecordingCuda())) == losses_of(eager(problem))


def test_side_streams_that_do_not_wait_are_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    real, calls = _Sides._follow, [0]

    def forgetful(self: _Sides, later: Any, earlier: Any) -> None:
        calls[0] += 1
        if calls[0] % 5 != 4:  # some gradient is used before it is there
            real(self, later, earlier)

    monkeypatch.setattr(_Sides, "_follow", forgetful)
    with pytest.raises(Violation):
        losses_of(side_streams(problem_of("deep-narrow-100"), RecordingCuda()))


def test_memory_that_sides_still_read_must_be_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    class Forgotten(list[Any]):
        def __iadd__(self, other: Any) -> Forgotten:  # type: ignore[misc]
            return self

    real = _Sides.__init__

    def begin(self: _Sides, *arguments: Any) -> None:
        real(self, *arguments)
        self.kept = Forgotten()

    monkeypatch.setattr(_Sides, "__init__", begin)
    with pytest.raises(Violation):
        losses_of(side_streams(problem_of("deep-narrow-100"), RecordingCuda()))

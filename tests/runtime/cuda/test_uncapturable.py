"""User code that a graph cannot hold: the operation, the stage, the module and the line are told."""

from __future__ import annotations

import inspect
import os
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from asyncpipe.errors import UserCodeError
from asyncpipe.runtime.cuda.recording.cuda import RecordingCuda
from asyncpipe.runtime.cuda.recording.operations import Operation
from asyncpipe.runtime.cuda.uncapturable import refuse_host_work
from asyncpipe.runtime.traced import TracedStage
from tests.runtime.cuda.recorded import pairs, recorded

ON_CUDA = "CUDA error: operation not permitted when stream is capturing"
"""What a call that CUDA does not capture raises from inside an operator."""


@torch.library.custom_op("asyncpipe_tests::counted", mutates_args=())
def counted(x: Tensor) -> Tensor:
    """Its author had it look at its values on the host."""
    return x * float(x.max() > -1e9)


counted.register_fake(torch.empty_like)
counted.register_autograd(lambda ctx, gradient: gradient)


class Counting(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = counted(x)
        return 2 * y


class StrictCuda(RecordingCuda):
    """Refuses operator `refused` in a capture, as CUDA refuses calls that it cannot capture."""

    refused = "asyncpipe_tests.counted"

    def _operation(self, operation: Operation) -> Any:
        if operation.name == self.refused and self._capture is not None:
            raise RuntimeError(f"{ON_CUDA}\nCompile with TORCH_USE_CUDA_DSA")
        return super()._operation(operation)


def model(part: nn.Module) -> nn.Sequential:
    return nn.Sequential(nn.Linear(6, 6), part, nn.Linear(6, 6))


def line_of(kind: type, text: str) -> int:
    lines, first = inspect.getsourcelines(kind)
    return first + next(i for i, line in enumerate(lines) if text in line)


@pytest.mark.usefixtures("constant_rate")
def test_an_operation_that_a_capture_refuses_is_named_with_stage_module_and_line() -> None:
    trainer, _ = recorded(model(Counting()), "sgd", "graph", StrictCuda(), stages=2)
    with pytest.raises(UserCodeError) as refused:
        trainer.fit(pairs(12))
    place = f"{os.path.relpath(__file__)}:{line_of(Counting, 'counted(x)')}:21"
    assert str(refused.value).startswith(
        f"{place}: error[AP711]: stage 0, module 1 (Counting), cannot be captured: asyncpipe_tests.counted.default:"
        f" {ON_CUDA}\n  help: a graph runs without the host"
    )
    assert refused.value.exit_code == 5


@pytest.mark.usefixtures("constant_rate")
def test_the_same_operation_runs_on_streams() -> None:
    trainer, _ = recorded(model(Counting()), "sgd", "streams", StrictCuda(), stages=2)
    assert len(trainer.fit(pairs(4)).losses) == 4


class Away(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        away: Tensor = x.to("meta") + 1
        return away


def test_work_on_another_device_is_refused_before_the_capture() -> None:
    stage = TracedStage(1, nn.Sequential(Away()), 1, False, None)
    stage.forward(0, torch.ones(2))
    with pytest.raises(UserCodeError) as refused:
        refuse_host_work(stage)
    found = str(refused.value)
    assert found.startswith(f"{os.path.relpath(__file__)}:{line_of(Away, 'meta')}:")
    assert "AP711]: stage 1, module 0 (Away), cannot be captured: aten._to_copy.default: it works on meta" in found


class Inverse(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        inverse: Tensor = torch.linalg.inv(x.T @ x + torch.eye(x.shape[1]))
        return x @ inverse


def test_an_operation_with_a_check_on_the_host_is_traced_without_the_check() -> None:
    """Tracing hands tokens around for it; the check would make the host wait."""
    x = torch.randn(8, 4, generator=torch.Generator().manual_seed(1), requires_grad=True)
    stage = TracedStage(1, nn.Sequential(Inverse()), 1, False, None)
    expected = Inverse()(x)
    expected.sum().backward()
    assert torch.equal(stage.forward(0, x.detach()), expected)
    (found,), _ = stage.backward(0, (torch.ones(8, 4),))
    assert found is not None
    assert x.grad is not None
    assert torch.equal(found, x.grad)
    (division,) = stage.traces.divisions
    assert "check_errors" not in division.forward.graph.code

"""What cannot be traced is named: stage, module and line."""

from __future__ import annotations

import inspect
import os
import random

import numpy
import pytest
import torch
from torch import Tensor, nn

from asyncpipe.errors import UserCodeError
from asyncpipe.runtime.traced import TracedStage


class Branching(nn.Linear):
    def forward(self, x: Tensor) -> Tensor:
        if x.sum() > 0:
            x = 2 * x
        return super().forward(x)


class Selecting(nn.Linear):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x + x[x > 0].sum())


class Leaving(torch.autograd.Function):
    @staticmethod
    def forward(ctx: object, x: Tensor) -> Tensor:
        return torch.from_numpy(x.detach().numpy() ** 2)

    @staticmethod
    def backward(ctx: object, dy: Tensor) -> Tensor:
        return dy


class Calling(nn.Linear):
    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = Leaving.apply(super().forward(x))
        return y


class Growing(nn.Linear):
    seen: Tensor

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__(inputs, outputs)
        self.register_buffer("seen", torch.zeros(1))

    def forward(self, x: Tensor) -> Tensor:
        self.seen = torch.cat([self.seen, x.detach().mean()[None]])
        return super().forward(x)


class Late(nn.Linear):
    seen: Tensor | None

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__(inputs, outputs)
        self.register_buffer("seen", None)

    def forward(self, x: Tensor) -> Tensor:
        self.seen = x.detach().mean(0)
        return super().forward(x)


class Clamped(nn.Linear):
    def forward(self, x: Tensor) -> Tensor:
        with torch.no_grad():
            self.weight[1:].clamp_(-0.1, 0.1)
        return super().forward(x)


class Decayed(nn.Linear):
    def forward(self, x: Tensor) -> Tensor:
        self.weight.data.mul_(0.5)
        return super().forward(x)


def refusal_of(module: nn.Module) -> str:
    stage = TracedStage(3, nn.Sequential(nn.Identity(), module), 1, False, None)
    with pytest.raises(UserCodeError) as refused:
        stage.forward(0, torch.ones(2, 4))
    return str(refused.value)


@pytest.mark.parametrize(
    ("kind", "line", "reason"),
    [
        (Branching, "if x.sum()", "depends on the values of its data"),
        (Selecting, "x[x > 0]", "depends on the values of its data"),
        (Clamped, "self.weight[1:]", "the forward writes into parameter 1.weight, which only updates may change"),
        (Decayed, "self.weight.data", "the forward writes into parameter 1.weight, which only updates may change"),
    ],
)
def test_what_a_graph_cannot_say_is_refused_with_its_line(kind: type[nn.Linear], line: str, reason: str) -> None:
    lines, first = inspect.getsourcelines(kind)
    number = first + next(i for i, text in enumerate(lines) if line in text)
    refusal = refusal_of(kind(4, 4))
    assert refusal.startswith(f"{os.path.relpath(__file__)}:{number}:")
    assert f": error[AP710]: stage 3, module 1 ({kind.__name__}), cannot be traced: " in refusal
    assert reason in refusal


def test_an_autograd_function_that_leaves_torch_is_refused() -> None:
    refusal = refusal_of(Calling(4, 4))
    assert "stage 3, module 1 (Calling), cannot be traced: " in refusal
    assert "numpy" in refusal


def test_buffers_that_change_their_shape_are_refused() -> None:
    assert "AP710]: buffer 1.seen is (1,) of torch.float32 before the forward, and (2,)" in refusal_of(Growing(4, 4))


def test_buffers_that_appear_are_refused() -> None:
    assert "AP710]: buffer 1.seen is None before the first forward, and a tensor after it" in refusal_of(Late(4, 4))


class StochasticDepth(nn.Linear):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) if random.random() < 0.5 else x


class Noisy(nn.Linear):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) + numpy.random.normal()


@pytest.mark.parametrize(("kind", "generator"), [(StochasticDepth, "random"), (Noisy, "numpy.random")])
def test_numbers_that_torch_does_not_draw_are_refused(kind: type[nn.Linear], generator: str) -> None:
    before = random.getstate()
    assert f"stage 3 draws numbers from {generator} in its forward; traced once" in refusal_of(kind(4, 4))
    assert random.getstate() == before


def test_a_failing_loss_is_refused_with_its_line() -> None:
    def loss(output: Tensor, target: Tensor) -> Tensor:
        return (output - target).mean() * output.max().item()

    stage = TracedStage(2, nn.Linear(4, 4), 1, False, loss)
    number = inspect.getsourcelines(loss)[1] + 1
    with pytest.raises(UserCodeError, match=rf":{number}:\d+: error\[AP710\]: stage 2 cannot be traced: "):
        stage.forward(0, torch.ones(2, 4), torch.ones(2, 4))

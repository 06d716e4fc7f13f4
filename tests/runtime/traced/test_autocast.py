"""Stages that compute in bfloat16: the bits of torch.autocast around a forward, and casts that stay as F made them."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from asyncpipe.models.reversible import Coupling
from asyncpipe.runtime.stage import Stage, StageOptions
from asyncpipe.runtime.traced import TracedStage
from tests.runtime.traced.stages import assert_traced_is_eager

BF16 = StageOptions(autocast=torch.bfloat16)
KINDS = [Stage, TracedStage]


def data(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(1))


def convolutions() -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Dropout(), nn.Linear(144, 5)
    )


@pytest.mark.parametrize("kind", KINDS)
def test_results_and_gradients_are_those_of_autograd_under_autocast(kind: Any) -> None:
    torch.manual_seed(0)
    network, x, classes = nn.Sequential(nn.Linear(6, 8), nn.LayerNorm(8), nn.Linear(8, 5)), data(4, 6), torch.arange(4)
    leaf = x.clone().requires_grad_()
    with torch.autocast("cpu", torch.bfloat16):
        y = network(leaf)
        loss = cross_entropy(y, classes)
    expected = torch.autograd.grad(loss, [leaf, *network.parameters()])
    stage = kind(1, network, 1, False, cross_entropy, BF16)
    assert torch.equal(stage.forward(0, x, classes), loss)
    inputs, parameters = stage.backward(0, None)
    assert y.dtype == torch.bfloat16
    assert [gradient.dtype for gradient in parameters] == [torch.float32] * 6
    assert all(torch.equal(a, b) for a, b in zip([*inputs, *parameters], expected, strict=True))


@pytest.mark.parametrize("split", [False, True])
def test_traced_is_eager(split: bool) -> None:
    assert_traced_is_eager(convolutions(), data(2, 3, 8, 8), options=BF16, split=split)


@pytest.mark.parametrize("kind", KINDS)
def test_a_backward_reads_the_casts_of_its_forward_and_not_the_weights_of_now(kind: Any) -> None:
    """DESIGN: values derived from parameters stay as F made them."""
    linear = nn.Linear(1, 1, bias=False)
    nn.init.constant_(linear.weight, 2.0)
    stage = kind(1, linear, 1, False, None, BF16)
    y = stage.forward(0, torch.ones(1, 1))
    stage.arena.views[0].fill_(5.0)
    (gradient,), _ = stage.backward(0, (torch.ones_like(y),))
    assert gradient.item() == 2.0


class Careful(nn.Module):
    """Keeps a product in float32, as people do around losses."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(6, 6), nn.Linear(6, 6)

    def forward(self, x: Tensor) -> Tensor:
        y = self.first(x)
        with torch.autocast("cpu", enabled=False):
            result: Tensor = self.second(y.float())
        return result


def test_what_the_user_switches_off_stays_off() -> None:
    stage = assert_traced_is_eager(Careful(), data(4, 6), options=BF16)
    assert stage.forward(0, data(4, 6)).dtype == torch.float32


def test_a_trace_is_for_the_autocast_that_the_caller_had_entered() -> None:
    """Casts are part of the graph, which then runs without autocast: a float32 product would become another one."""
    module, x = Careful(), data(4, 6)
    stage = TracedStage(1, module, 1, False, None)
    found = []
    for enabled in (False, True):
        with torch.autocast("cpu", torch.bfloat16, enabled=enabled), torch.no_grad():
            found.append(stage.forward(0, x))
            assert torch.equal(found[-1], module(x))
    assert len(stage.traces) == 2
    assert not torch.equal(*found)


@pytest.mark.parametrize("kind", KINDS)
def test_an_inverse_computes_as_the_forward_did(kind: Any) -> None:
    torch.manual_seed(0)
    coupling = Coupling(nn.Linear(3, 3), nn.Linear(3, 3))
    options = StageOptions(recompute="invert", autocast=torch.bfloat16)
    stage = kind(1, coupling, 1, False, None, options)
    x = data(4, 6)
    y = stage.forward(0, x)
    stage.forward_again(0, None, (y,))
    torch.testing.assert_close(stage.inputs(0)[0], x, rtol=0, atol=1e-6)

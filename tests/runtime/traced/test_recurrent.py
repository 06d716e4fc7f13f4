"""Recurrent layers stay whole: one operation forward, one backward, however long the sequence."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from asyncpipe.errors import UsageError
from asyncpipe.runtime.traced import TracedStage, cudnn_recurrent, recurrent
from tests.runtime.traced.stages import assert_traced_is_eager, ones

STEPS, BATCH, INPUTS = 40, 2, 3


def sequence() -> Tensor:
    return torch.randn(STEPS, BATCH, INPUTS, generator=torch.Generator().manual_seed(1))


Kind = Callable[..., nn.RNNBase]


class Outputs(nn.Module):
    """All that a recurrent layer gives."""

    def __init__(self, layer: nn.RNNBase) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, value: Tensor) -> tuple[Tensor, ...]:
        outputs, state = self.layer(value)
        return (outputs, *state) if isinstance(state, tuple) else (outputs, state)


def nodes(stage: TracedStage) -> tuple[int, int]:
    (division,) = stage.traces.divisions
    return len(division.forward.graph.graph.nodes), len(division.backward.graph.graph.nodes)


STACK = {"num_layers": 2, "bidirectional": True, "dropout": 0.5}


@pytest.mark.parametrize("options", [{}, {"bias": False}, STACK], ids=str)
def test_an_lstm_is_one_operation_for_each_layer_and_direction(options: dict[str, Any]) -> None:
    stage = assert_traced_is_eager(Outputs(nn.LSTM(INPUTS, 4, **options)), sequence())
    layers = 4 if options is STACK else 1
    forward, backward = nodes(stage)
    assert forward <= 20 * layers + 10
    assert backward <= 25 * layers + 15


@pytest.mark.parametrize("kind", [nn.GRU, nn.RNN])
def test_dropout_between_unrolled_layers_is_not_forgotten(kind: Kind) -> None:
    assert_traced_is_eager(Outputs(kind(INPUTS, 4, num_layers=2, dropout=0.5, batch_first=True)), sequence()[:3])


def test_recurrent_layers_cannot_be_split() -> None:
    stage = TracedStage(1, nn.Sequential(nn.Identity(), Outputs(nn.LSTM(INPUTS, 4))), 1, False, None)
    seeds = ones(stage.forward(0, sequence()))
    with pytest.raises(UsageError, match=r"stage 1, module 1\.layer \(LSTM\): .* cannot be split into I and W"):
        stage.input_gradient(0, seeds)


KINDS = {number: name for name, number in cudnn_recurrent.KINDS.items()}


def torch_layer(
    value: Tensor, weights: list[Tensor], hidden: Tensor, cell: Tensor | None, shape: tuple[Any, ...]
) -> tuple[Tensor, ...]:
    mode, _, _, layers, batch_first, bidirectional = shape
    state = hidden if cell is None else (hidden, cell)
    found: tuple[Tensor, ...] = getattr(torch, KINDS[mode])(
        value, state, weights, True, layers, 0.0, True, bidirectional, batch_first
    )
    return found


def unpacked(packed: Tensor, weights: list[Tensor]) -> list[Tensor]:
    parts = packed.split([weight.numel() for weight in weights])
    return [part.view(weight.shape) for part, weight in zip(parts, weights, strict=True)]


def on_cpu_forward(
    value: Tensor, weights: list[Tensor], packed: Tensor, hidden: Tensor, cell: Tensor | None, *shape: Any
) -> tuple[Tensor, ...]:
    outputs, *states = torch_layer(value, unpacked(packed, weights), hidden, cell, shape)
    return outputs, states[0], states[1] if cell is not None else hidden.new_empty(0), value.new_empty(0)


def on_cpu_backward(
    value: Tensor,
    weights: list[Tensor],
    packed: Tensor,
    hidden: Tensor,
    cell: Tensor | None,
    output: Tensor,
    reserve: Tensor,
    *rest: Any,
) -> tuple[Tensor, Tensor, Tensor, list[Tensor]]:
    """cuDNN keeps its gates in `reserve`; here they are computed again from the weights of the backward."""
    given, shape = rest[:3], rest[3:]
    with torch.enable_grad():
        states = [hidden] if cell is None else [hidden, cell]
        leaves = [leaf.detach().requires_grad_() for leaf in (value, *states, *unpacked(packed, weights))]
        count = 1 + len(states)
        found = torch_layer(leaves[0], leaves[count:], leaves[1], leaves[2] if cell is not None else None, shape)
        pairs = [(y, dy) for y, dy in zip(found, given, strict=False) if dy is not None]
        gradients = torch.autograd.grad([y for y, _ in pairs], leaves, [dy for _, dy in pairs])
    d_cell = gradients[2] if cell is not None else hidden.new_empty(0)
    return gradients[0], gradients[1], d_cell, list(gradients[count:])


@pytest.fixture
def cudnn_on_cpu(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The operations that CUDA has, by torch's own layers; their weights in the order of the parameters."""
    library = torch.library.Library("asyncpipe", "IMPL")
    library.impl("cudnn_weights", lambda weights, *_: torch.cat([weight.flatten() for weight in weights]), "CPU")
    library.impl("cudnn_recurrent", on_cpu_forward, "CPU")
    library.impl("cudnn_recurrent_backward", on_cpu_backward, "CPU")
    monkeypatch.setattr(
        recurrent, "_function", lambda name, *_: lambda *args: cudnn_recurrent.cudnn_recurrent(name, *args)
    )
    yield
    library._destroy()


@pytest.mark.usefixtures("cudnn_on_cpu")
@pytest.mark.parametrize("kind", [nn.LSTM, nn.GRU, nn.RNN])
def test_the_operations_of_cuda_give_the_same_gradients(kind: Kind) -> None:
    stage = assert_traced_is_eager(
        Outputs(kind(INPUTS, 4, num_layers=2, batch_first=True)), sequence()[:5], exact=False
    )
    assert sum(nodes(stage)) <= 70


@pytest.mark.usefixtures("cudnn_on_cpu")
def test_a_backward_on_cuda_packs_the_weights_of_now() -> None:
    torch.manual_seed(0)
    stage = TracedStage(1, Outputs(nn.LSTM(INPUTS, 4)), 1, False, None)
    value = sequence()[:5]
    seeds = ones(stage.forward(0, value))
    for view in stage.arena.views:
        view.mul_(2)
    (found,), _ = stage.backward(0, seeds)
    stage.forward(0, value)
    (expected,), _ = stage.backward(0, seeds)
    assert found is not None
    assert expected is not None
    assert torch.equal(found, expected)


@pytest.mark.cuda
@pytest.mark.parametrize("kind", [nn.LSTM, nn.GRU, nn.RNN])
def test_cudnn_gives_the_gradients_of_the_autograd_engine(kind: Kind) -> None:
    torch.manual_seed(0)
    layer = Outputs(kind(INPUTS, 4, num_layers=2, batch_first=True)).cuda()
    value = sequence().cuda().requires_grad_()
    outputs = layer(value)
    seeds = ones(outputs)
    expected = torch.autograd.grad(outputs, [value, *layer.parameters()], seeds)
    stage = TracedStage(1, layer, 1, False, None)
    stage.forward(0, value.detach())
    inputs, parameters = stage.backward(0, seeds)
    for found, wanted in zip([*inputs, *parameters], expected, strict=True):
        torch.testing.assert_close(found, wanted)

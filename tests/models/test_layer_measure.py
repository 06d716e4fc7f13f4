"""Measuring any layers: what is counted, that nothing changes, and what the user reads when a layer fails."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from asyncpipe.errors import UsageError, UserCodeError
from asyncpipe.models.measure import measure_layers


class Noisy(nn.Module):
    """What a user's layer may do: draw numbers, write into its input, update buffers in place and by assignment."""

    seen: Tensor
    scale: Tensor
    calls: Tensor | None

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(4, 4)
        self.register_buffer("calls", None)
        self.register_buffer("seen", torch.zeros(()))
        self.register_buffer("scale", torch.ones(4))

    def forward(self, x: Tensor) -> Tensor:
        self.seen += 1
        self.scale = self.scale * 2
        self.calls = torch.ones(())
        x.add_(1)
        y: Tensor = self.linear(x) + torch.rand(4)
        return y


class Pair(nn.Module):
    """A layer with two outputs."""

    def forward(self, x: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        return x + 1, {"half": x[:1] * 2}


class Join(nn.Module):
    """A layer that takes what `Pair` gives."""

    def forward(self, pair: tuple[Tensor, dict[str, Tensor]]) -> Tensor:
        return pair[0] + pair[1]["half"]


def test_layers_run_one_after_another() -> None:
    layers = [nn.Linear(4, 6), nn.Sequential(nn.ReLU(), nn.Linear(6, 2, bias=False))]
    first, second = measure_layers(layers, torch.rand(5, 4))
    assert (first.name, second.name) == ("layer0", "layer1")
    assert (first.forward_flops, second.forward_flops) == (2 * 5 * 4 * 6, 2 * 5 * 6 * 2)
    assert (first.parameters, second.parameters) == (30, 12)
    assert (first.activation_bytes, second.activation_bytes) == (5 * 6 * 4, 5 * 2 * 4)
    assert (first.operations, second.operations) == (1, 2)


def test_bytes_follow_the_data_type() -> None:
    (cost,) = measure_layers([nn.Linear(4, 6).double()], torch.rand(5, 4).double())
    assert (cost.parameter_bytes, cost.activation_bytes) == (30 * 8, 5 * 6 * 8)


def test_views_and_allocations_are_no_operations() -> None:
    class Views(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            torch.empty(3)
            torch.empty_like(x)
            return x.transpose(0, 1).unsqueeze(0)[0].detach()

    assert measure_layers([Views()], torch.rand(5, 4))[0].operations == 0


def test_operations_in_place_are_operations() -> None:
    class InPlace(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return (x + 1).mul_(2).relu_()

    assert measure_layers([InPlace()], torch.rand(5, 4))[0].operations == 3


def test_several_outputs_travel_and_count_together() -> None:
    first, second = measure_layers([Pair(), Join()], torch.rand(5, 4))
    assert first.activation_bytes == 5 * 4 * 4 + 1 * 4 * 4
    assert second.activation_bytes == 5 * 4 * 4


def test_nothing_that_the_user_sees_changes() -> None:
    model = nn.Sequential(Noisy(), nn.BatchNorm1d(4), nn.Dropout(0.5))
    model[1].eval()
    before = {key: value.clone() for key, value in model.state_dict().items()}
    versions = [buffer._version for buffer in model.buffers()]
    random_state = torch.get_rng_state()
    sample = torch.zeros(5, 4)
    measure_layers(list(model), sample)
    assert not sample.any()
    assert model[0].calls is None
    after = model.state_dict()
    assert after.keys() == before.keys()
    assert all(torch.equal(after[key], before[key]) for key in before)
    assert [buffer._version for buffer in model.buffers()] == versions
    assert torch.equal(torch.get_rng_state(), random_state)
    assert [module.training for module in model] == [True, False, True]
    assert model.training
    assert all(parameter.grad is None for parameter in model.parameters())
    assert torch.is_grad_enabled()


def test_dropout_and_running_statistics_are_not_counted() -> None:
    (cost,) = measure_layers([nn.Sequential(nn.BatchNorm1d(4), nn.Dropout(0.5))], torch.rand(5, 4))
    assert cost.operations == 1


def test_measuring_twice_gives_the_same() -> None:
    layers = [Noisy(), nn.GRU(4, 3)]
    sample = torch.rand(2, 5, 4)
    assert measure_layers(layers, sample) == measure_layers(layers, sample)


def cell_flops(gates: int, inputs: int = 4) -> int:
    """Five steps, six samples, `inputs` -> 3."""
    return 5 * 6 * 2 * gates * 3 * (inputs + 3)


@pytest.mark.parametrize(
    ("make", "flops"),
    [
        (lambda: nn.LSTM(4, 3), cell_flops(4)),
        (lambda: nn.LSTM(4, 3, bias=False), cell_flops(4)),
        (lambda: nn.LSTM(4, 3, bidirectional=True), 2 * cell_flops(4)),
        (lambda: nn.LSTM(4, 3, num_layers=2), cell_flops(4) + cell_flops(4, inputs=3)),
        (lambda: nn.GRU(4, 3), cell_flops(3)),
    ],
)
def test_recurrent_flops_are_counted_inside_fused_kernels_too(make: Callable[[], nn.Module], flops: int) -> None:
    assert measure_layers([make()], torch.rand(5, 6, 4))[0].forward_flops == flops


def test_recurrent_operations_grow_by_two_per_step() -> None:
    """A fused kernel stands for what it launches: a product and a pointwise kernel per step."""
    lstm = nn.LSTM(4, 3)
    short, long = (measure_layers([lstm], torch.rand(steps, 6, 4))[0].operations for steps in (5, 25))
    assert long - short == 2 * 20


def test_failing_layer_is_named_with_its_input() -> None:
    layer = nn.Linear(7, 2).train()
    with pytest.raises(UserCodeError) as caught:
        measure_layers([nn.Linear(4, 6), layer], torch.rand(5, 4), ["stem", "head"])
    assert caught.value.message.startswith(
        "layer head raised RuntimeError on an input of (5, 6) torch.float32: mat1 and mat2 shapes"
    )
    assert isinstance(caught.value.__cause__, RuntimeError)
    assert layer.training


def test_names_must_be_as_many_as_layers() -> None:
    with pytest.raises(UsageError, match="one name for each of the 1 layers, found 2"):
        measure_layers([nn.ReLU()], torch.rand(1), ["a", "b"])


@pytest.mark.cuda
def test_lstm_costs_the_same_on_cuda() -> None:
    """cuDNN's kernel is as opaque as the CPU's; the layouts that it copies may differ."""
    lstm = nn.LSTM(4, 3, num_layers=2, bidirectional=True)
    sample = torch.rand(5, 6, 4)
    (host,) = measure_layers([lstm], sample)
    (device,) = measure_layers([lstm.cuda()], sample.cuda())
    assert device.forward_flops == host.forward_flops
    assert device.activation_bytes == host.activation_bytes


def test_an_input_of_several_tensors_is_measured() -> None:
    class Sum(nn.Module):
        def forward(self, parts: tuple[Tensor, Tensor]) -> Tensor:
            return parts[0].add_(1) + parts[1]

    parts = torch.zeros(2, 3), torch.zeros(2, 3)
    (cost,) = measure_layers([Sum()], parts)
    assert cost.activation_bytes == 24
    assert not parts[0].any()

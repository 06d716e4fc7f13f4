"""Single stages against the autograd engine: what goes in and out, buffers, weights, and what a backward reads."""

from __future__ import annotations

from functools import partial

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, mse_loss
from torch.utils.checkpoint import checkpoint

from asyncpipe.errors import InternalError, UsageError
from asyncpipe.runtime.arena import Arena
from asyncpipe.runtime.stage import Stage, StageOptions
from asyncpipe.runtime.traced import TracedStage
from asyncpipe.runtime.traced.traces import MAX_TRACES
from tests.runtime.traced.stages import assert_traced_is_eager, ones


def data(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(1))


class Mixed(nn.Module):
    """(float, ids, float) -> four results, one of them integer, one an input; a frozen and two unused parameters."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(6, 6)
        self.second = nn.Linear(6, 3)
        self.unused = nn.Linear(2, 2)
        self.second.bias.requires_grad_(False)

    def forward(self, value: tuple[Tensor, Tensor, Tensor]) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        x, ids, z = value
        return self.first(x), ids + 1, z, self.second(x * z)


MIXED = (data(4, 6), torch.arange(4), data(4, 6) + 1)


@pytest.mark.parametrize(("split", "lowest"), [(False, False), (True, False), (False, True)])
def test_tuples_with_ids_frozen_and_unused_parameters(split: bool, lowest: bool) -> None:
    assert_traced_is_eager(Mixed(), MIXED, split=split, lowest=lowest)


def test_no_gradient_where_none_of_those_that_came_leads_to_one() -> None:
    assert_traced_is_eager(Mixed(), MIXED, seeds=lambda y: (None, None, None, torch.ones_like(y[3])))
    assert_traced_is_eager(Mixed(), MIXED, seeds=lambda y: (None, None, None, None), steps=1)


class Tied(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(6, 6), nn.Linear(6, 6)
        self.second.weight = self.first.weight

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.second(self.first(x).relu())
        return y


@pytest.mark.parametrize("split", [False, True])
def test_tied_parameters_have_one_gradient(split: bool) -> None:
    stage = assert_traced_is_eager(Tied(), data(4, 6), split=split)
    assert len(stage.arena.views) == 3


class Counting(nn.Module):
    """Reads buffers before and after it changes them, one in place and one by assignment."""

    mean: Tensor
    count: Tensor
    scale: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(6, 6)
        self.register_buffer("mean", torch.ones(6))
        self.register_buffer("count", torch.zeros((), dtype=torch.long))
        self.register_buffer("scale", torch.full((6,), 2.0))

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.linear(x) * self.mean * self.scale
        self.mean = self.mean * 0.9 + y.detach().mean(0)
        self.count += 1
        return y * self.mean


@pytest.mark.parametrize("split", [False, True])
def test_a_backward_reads_a_buffer_as_its_forward_did(split: bool) -> None:
    stage = assert_traced_is_eager(Counting(), data(4, 6), split=split, steps=3)
    assert int(stage.module.get_buffer("count")) == 3


def test_buffers_keep_the_values_of_their_forward_while_others_run() -> None:
    """Two microbatches in flight: each backward uses the mean that its own forward found and left."""
    torch.manual_seed(0)
    stage = TracedStage(1, Counting(), 2, False, None)
    first, second = data(4, 6), 2 * data(4, 6)
    stage.forward(0, first)
    expected, _ = stage.backward(0, (torch.ones(4, 6),))
    for name, value in Counting().named_buffers():
        stage.module.get_buffer(name).copy_(value)
    stage.forward(0, first)
    stage.forward(1, second)
    found, _ = stage.backward(0, (torch.ones(4, 6),))
    assert expected[0] is not None
    assert found[0] is not None
    assert torch.equal(found[0], expected[0])


def test_in_place_modules_leave_the_input_alone() -> None:
    value = data(4, 6)
    assert_traced_is_eager(nn.Sequential(nn.ReLU(inplace=True), nn.Linear(6, 6), nn.ReLU(inplace=True)), value)
    assert torch.equal(value, data(4, 6))


def test_a_stage_may_give_its_input() -> None:
    assert_traced_is_eager(nn.Sequential(nn.Flatten()), data(4, 6))


class Doubling(nn.Module):
    def forward(self, value: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        first, second = value
        return first * second, first


def test_one_tensor_may_come_twice() -> None:
    value = data(4, 6)
    assert_traced_is_eager(Doubling(), (value, value))
    assert_traced_is_eager(nn.Linear(6, 6), value, value, loss=mse_loss)


LOSSES = [
    partial(cross_entropy, weight=torch.arange(1.0, 7)),
    nn.CrossEntropyLoss(weight=torch.arange(1.0, 7)),
]


@pytest.mark.parametrize("loss", LOSSES, ids=["function", "module"])
def test_tensors_of_the_loss_are_constants(loss: object) -> None:
    assert_traced_is_eager(nn.Linear(6, 6), data(4, 6), torch.tensor([1, 2, 3, 0]), loss=loss)


def test_targets_are_any_nest_of_tensors_and_numbers() -> None:
    target = {"classes": torch.tensor([1, 2, 3, 0]), "scale": 2.0}
    stage = assert_traced_is_eager(
        nn.Linear(6, 6), data(4, 6), target, loss=lambda y, t: cross_entropy(y, t["classes"]) * t["scale"]
    )
    stage.forward(0, data(4, 6), {**target, "scale": 3.0})
    assert len(stage.traces) == 2


class Square(torch.autograd.Function):
    @staticmethod
    def forward(ctx: object, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)  # type: ignore[attr-defined]
        return x**2

    @staticmethod
    def backward(ctx: object, dy: Tensor) -> Tensor:
        x: Tensor
        (x,) = ctx.saved_tensors  # type: ignore[attr-defined]
        return 3 * x * dy


class Calls(nn.Module):
    """What people write: an autograd function, a checkpoint, a mask that is no buffer, tensors made in the forward."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Linear(6, 6), nn.Tanh())
        self.mask = torch.ones(6, 6).tril()

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = checkpoint(self.body, Square.apply(x), use_reentrant=False)
        return y @ self.mask + torch.arange(6) + torch.tensor([1.0, 2, 3, 4, 5, 6])


def test_autograd_functions_checkpoints_and_tensors_of_the_forward() -> None:
    stage = assert_traced_is_eager(Calls(), data(4, 6))
    (division,) = stage.traces.divisions
    code = division.forward.graph.code + division.backward.graph.code
    assert [made for made in ("arange", "lift_fresh_copy", "ones", "zeros") if f".{made}." in code] == []


def test_memory_formats_stay() -> None:
    images = data(2, 3, 8, 8).to(memory_format=torch.channels_last)
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU())
    network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    stage = assert_traced_is_eager(network, images)
    assert stage.forward(0, images).is_contiguous(memory_format=torch.channels_last)


def test_gradients_in_other_strides_are_copied_once_and_then_expected() -> None:
    stage = assert_traced_is_eager(nn.Linear(6, 6), data(4, 6), seeds=lambda y: (torch.ones(6, 4).t(),))
    (division,) = stage.traces.divisions
    assert division.joint.seeds[0] is not None
    assert division.joint.seeds[0].meta["val"].stride() == (1, 4)


def weights(*values: float) -> Arena:
    return Arena.of([("weight", nn.Parameter(torch.tensor([values])))])


def scaled(own_weights: bool) -> TracedStage:
    """y = w x; the gradient of x is w."""
    linear = nn.Linear(1, 1, bias=False)
    nn.init.constant_(linear.weight, 2.0)
    return TracedStage(1, linear, 1, own_weights, None)


@pytest.mark.parametrize(
    ("own_weights", "given", "expected"),
    [(False, False, 5.0), (True, False, 2.0), (False, True, 7.0), (True, True, 7.0)],
    ids=["latest", "same", "given", "given to a slot with its own"],
)
def test_weights_that_a_backward_reads(own_weights: bool, given: bool, expected: float) -> None:
    stage = scaled(own_weights)
    stage.forward(0, torch.ones(1, 1))
    stage.arena.views[0].fill_(5.0)
    (gradient,), _ = stage.backward(0, ones((torch.ones(1, 1),)), weights(7.0) if given else None)
    assert gradient is not None
    assert gradient.item() == expected


def test_a_forward_reads_the_weights_it_is_given() -> None:
    assert scaled(False).forward(0, torch.ones(1, 1), None, weights(3.0)).item() == 3.0


def test_shapes_are_bounded() -> None:
    stage = TracedStage(1, nn.Flatten(), 1, False, None)
    for size in range(1, MAX_TRACES + 1):
        stage.forward(0, torch.ones(size, 1))
    with pytest.raises(UsageError, match=r"traced for 8 kinds of input, and now gets one more: \(9, 1\) of float32"):
        stage.forward(0, torch.ones(9, 1))
    stage.forward(0, torch.ones(3, 1))


def test_replicas_may_share_their_traces() -> None:
    first, second = nn.Linear(6, 6), nn.Linear(6, 6)
    stage = TracedStage(1, first, 1, False, None)
    replica = TracedStage(1, second, 1, False, None, traces=stage.traces)
    value = data(4, 6)
    assert torch.equal(stage.forward(0, value), first(value))
    assert torch.equal(replica.forward(0, value), second(value))
    assert replica.traces is stage.traces
    assert len(stage.traces) == 1


def test_a_dropped_microbatch_is_gone() -> None:
    stage = scaled(False)
    stage.forward(0, torch.ones(1, 1))
    stage.drop()
    with pytest.raises(InternalError, match="a backward without its forward"):
        stage.backward(0, (torch.ones(1, 1),))


def test_autocast_computes_in_its_type_and_keeps_parameters_as_they_are() -> None:
    torch.manual_seed(0)
    linear, x = nn.Linear(6, 6), data(4, 6)
    leaf = x.clone().requires_grad_()
    with torch.autocast("cpu", torch.bfloat16):
        y = linear(leaf)
    expected = torch.autograd.grad(y, [leaf, *linear.parameters()], torch.ones_like(y))
    stage = TracedStage(1, linear, 1, False, None, StageOptions(autocast=torch.bfloat16))
    assert torch.equal(stage.forward(0, x), y.detach())
    inputs, parameters = stage.backward(0, (torch.ones_like(y),))
    assert all(torch.equal(a, b) for a, b in zip([*inputs, *parameters], expected, strict=True) if a is not None)


def test_both_kinds_of_stage_have_the_same_methods() -> None:
    public = {name for name in dir(Stage) if not name.startswith("_")}
    assert public <= set(dir(TracedStage))

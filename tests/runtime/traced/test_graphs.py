"""The graphs themselves: what they save, write, and leave out."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, fx, nn

from asyncpipe.runtime.stage import StageOptions
from asyncpipe.runtime.traced import TracedStage
from asyncpipe.runtime.traced.divide import Division


def division_of(module: nn.Module, value: Tensor, **options: Any) -> Division:
    stage = TracedStage(1, module, 1, False, None, StageOptions(**options))
    stage.forward(0, value)
    (division,) = stage.traces.divisions
    return division


def calls(graph: fx.GraphModule) -> list[str]:
    """The operations in order."""
    return [node.target.name() for node in graph.graph.nodes if isinstance(node.target, torch._ops.OpOverload)]


NORMED = nn.Sequential(nn.Conv2d(2, 3, 3), nn.BatchNorm2d(3), nn.ReLU(inplace=True))
IMAGES = torch.ones(2, 2, 5, 5)


def test_batch_norm_writes_its_statistics_itself() -> None:
    forward = division_of(NORMED, IMAGES).forward
    assert forward.updated == ()
    assert calls(forward.graph) == [
        "aten::convolution", "aten::add_.Tensor", "aten::_native_batch_norm_legit", "aten::relu"
    ]  # fmt: skip


def test_a_second_forward_writes_nothing() -> None:
    stage = TracedStage(1, NORMED, 1, False, None, StageOptions(recompute="full"))
    stage.forward(0, IMAGES)
    before = [buffer.clone() for buffer in stage.module.buffers()]
    stage.forward_again(0, None)
    assert all(torch.equal(a, b) for a, b in zip(stage.module.buffers(), before, strict=True))


def test_parameters_and_views_are_not_saved() -> None:
    linear = nn.Sequential(nn.Flatten(), nn.Linear(50, 4), nn.Unflatten(1, (2, 2)), nn.Tanh())
    division = division_of(linear, IMAGES)
    assert [node.name for node in division.saved] == [division.joint.inputs[0].name, "tanh"]
    assert division.backward.parameters == (0,)


def test_halves_compute_what_they_are_asked_for() -> None:
    division = division_of(NORMED, IMAGES)
    masks = {
        name: [node.args[-1] for node in half.graph.graph.nodes if "backward" in str(node.target)][1:]
        for name, half in (("I", division.input_gradient), ("W", division.weight_gradient))
    }
    assert masks == {"I": [[True, False, False], [True, False, False]], "W": [[True, True, True], [False, True, True]]}
    # The gradients of the inputs of relu and of batch norm.
    assert division.computed_twice == 2


def test_recomputation_saves_masks_instead_of_activations() -> None:
    module = nn.Sequential(nn.Linear(5, 5), nn.Dropout(0.5), nn.Linear(5, 5), nn.Tanh())
    division = division_of(module, torch.ones(2, 5), recompute="full")
    assert len(division.draws) == 2
    assert "aten::native_dropout" in calls(division.first_forward.graph)
    assert "aten::native_dropout" not in calls(division.second_forward.graph)


def test_nothing_is_recorded_for_autograd() -> None:
    stage = TracedStage(1, nn.Linear(5, 5), 1, False, None)
    result = stage.forward(0, torch.ones(2, 5))
    assert result.grad_fn is None
    assert not any(view.requires_grad for view in stage.arena.views)


@pytest.mark.cuda
def test_a_stage_can_be_captured() -> None:
    stage = TracedStage(1, nn.Sequential(copy.deepcopy(NORMED), nn.Flatten(), nn.Linear(27, 4)).cuda(), 1, False, None)
    value, seed = torch.randn(2, 2, 5, 5, device="cuda"), torch.ones(2, 4, device="cuda")

    def step() -> list[Tensor | None]:
        result = stage.forward(0, value)
        inputs, parameters = stage.backward(0, (seed,))
        return [result, *inputs, *parameters]

    side = torch.cuda.Stream()
    with torch.cuda.stream(side):
        step()
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        captured = step()
    value.mul_(2)
    graph.replay()
    torch.testing.assert_close(captured, step())

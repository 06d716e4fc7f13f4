"""Static layer costs against the real modules: names, parameters, FLOPs, bytes, operations; and no torch."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from asyncpipe.errors import UsageError
from asyncpipe.models import NAMES, build
from asyncpipe.models.describe import LayerCost, describe
from asyncpipe.models.measure import measure_layers
from asyncpipe.models.modules import split_layers

ROOT = Path(__file__).parents[2]
IMAGES: list[tuple[str, dict[str, Any], tuple[int, ...]]] = [
    ("mlp", {}, (1, 8, 8)),
    ("mlp", {"hidden": [5]}, (17,)),
    ("convnet", {}, (1, 8, 8)),
    ("convnet", {"channels": [3, 5], "hidden": 7, "norm": "none"}, (3, 9, 13)),
    ("convnet", {"channels": [4]}, (2, 1, 3)),
    ("deep-narrow", {}, (1, 8, 8)),
    ("deep-narrow", {"layers": 4, "width": 6, "residual": False}, (5,)),
]
RECURRENT: list[tuple[str, dict[str, Any], tuple[int, ...]]] = [
    ("lstm", {}, (1, 8, 8)),
    ("lstm", {"layers": 3, "hidden": 7}, (3, 5, 4)),
    ("lstm", {"layers": 1, "vocabulary": 11, "embedding": 6, "hidden": 9}, (12,)),
]


def sample_of(shape: tuple[int, ...], options: dict[str, Any], batch: int) -> torch.Tensor:
    if "vocabulary" in options:
        return torch.randint(options["vocabulary"], (batch, *shape))
    return torch.rand(batch, *shape)


@pytest.mark.parametrize("batch", [1, 6])
@pytest.mark.parametrize(("name", "options", "shape"), IMAGES + RECURRENT)
def test_names_parameters_and_bytes_are_those_of_the_module(
    name: str, options: dict[str, Any], shape: tuple[int, ...], batch: int
) -> None:
    costs = describe(name, options, shape, 10, batch)
    layers = split_layers(build(name, options, shape, 10))
    assert [cost.name for cost in costs] == [layer for layer, _ in layers]
    value = sample_of(shape, options, batch)
    for cost, (_, layer) in zip(costs, layers, strict=True):
        value = layer(value)
        parameters = list(layer.parameters())
        assert cost.parameters == sum(parameter.numel() for parameter in parameters)
        assert cost.parameter_bytes == sum(parameter.nbytes for parameter in parameters)
        assert cost.activation_bytes == value.nbytes


@pytest.mark.parametrize(("name", "options", "shape"), IMAGES)
def test_flops_are_those_of_torchs_counter(name: str, options: dict[str, Any], shape: tuple[int, ...]) -> None:
    costs = describe(name, options, shape, 10, 6)
    value = sample_of(shape, options, 6)
    for cost, (_, layer) in zip(costs, split_layers(build(name, options, shape, 10)), strict=True):
        with FlopCounterMode(display=False) as counter:
            value = layer(value)
        assert cost.forward_flops == counter.get_total_flops()


def test_lstm_flops_are_the_two_products_of_every_step() -> None:
    """Torch's counter sees nothing inside the fused CPU kernel, hence the formula.

    Per sample and step: inputs times (inputs x 4 hidden), state times (hidden x 4 hidden), a multiply-add
    being two. As everywhere, biases and pointwise work (gates and states) are not in it.
    """
    costs = describe("lstm", {"hidden": 7}, (3, 5, 4), 10, batch=6)
    steps, inputs, hidden = 5, 3 * 4, 7
    assert costs[0].forward_flops == 6 * steps * 2 * (inputs * 4 * hidden + hidden * 4 * hidden)
    assert costs[1].forward_flops == 6 * steps * 2 * (hidden * 4 * hidden + hidden * 4 * hidden)
    assert costs[2].forward_flops == 6 * 2 * hidden * 10


def test_lstm_flops_are_those_of_its_cells_run_one_by_one() -> None:
    """The unfused cell is made of products that torch's counter does see."""
    cell = torch.nn.LSTMCell(12, 7)
    with FlopCounterMode(display=False) as counter:
        state = None
        for _ in range(5):
            state = cell(torch.rand(6, 12), state)
    assert describe("lstm", {"hidden": 7}, (3, 5, 4), 10, 6)[0].forward_flops == counter.get_total_flops()


@pytest.mark.parametrize(("name", "options", "shape"), IMAGES)
def test_description_equals_the_measurement(name: str, options: dict[str, Any], shape: tuple[int, ...]) -> None:
    names, layers = zip(*split_layers(build(name, options, shape, 10)), strict=True)
    measured = measure_layers(layers, sample_of(shape, options, 6), names)
    assert describe(name, options, shape, 10, 6) == measured


@pytest.mark.parametrize(("name", "options", "shape"), RECURRENT)
def test_description_of_an_lstm_misses_at_most_two_operations(
    name: str, options: dict[str, Any], shape: tuple[int, ...]
) -> None:
    """Whether its input is copied into another layout first depends on the shape."""
    names, layers = zip(*split_layers(build(name, options, shape, 10)), strict=True)
    measured = measure_layers(layers, sample_of(shape, options, 6), names)
    for stated, found in zip(describe(name, options, shape, 10, 6), measured, strict=True):
        assert replace(stated, operations=found.operations) == found
        assert 0 <= found.operations - stated.operations <= 2


def test_costs_of_a_small_convnet_are_these() -> None:
    """By hand: 3 x 3 products over 8 x 8 pixels, then 128 features after two poolings of four and two."""
    options = {"channels": [2, 4], "hidden": 8}
    assert describe("convnet", options, (1, 8, 8), 10, batch=3) == (
        LayerCost("block0", 3 * 64 * 2 * 2 * 9, 18 + 4, 88, 3 * 2 * 64 * 4, 3),
        LayerCost("block1", 3 * 64 * 4 * 2 * 9 * 2, 72 + 8, 320, 3 * 4 * 16 * 4, 4),
        LayerCost("hidden", 3 * 64 * 8 * 2, 64 * 8 + 8, 2080, 3 * 8 * 4, 2),
        LayerCost("output", 3 * 8 * 10 * 2, 90, 360, 3 * 10 * 4, 1),
    )


@pytest.mark.parametrize("name", NAMES)
def test_flops_and_activations_grow_with_the_batch_and_nothing_else_does(name: str) -> None:
    one, eight = (describe(name, {}, (1, 8, 8), 10, batch) for batch in (1, 8))
    for small, large in zip(one, eight, strict=True):
        assert large == replace(
            small, forward_flops=8 * small.forward_flops, activation_bytes=8 * small.activation_bytes
        )


def test_empty_batch_is_refused() -> None:
    with pytest.raises(UsageError, match="batch of at least 1 sample, found 0"):
        describe("mlp", {}, (1, 8, 8), 10, 0)


def test_description_needs_no_torch() -> None:
    code = (
        "import sys, asyncpipe.models, asyncpipe.models.describe as d\n"
        "assert all(d.describe(name, {}, (1, 8, 8), 10, 4) for name in asyncpipe.models.NAMES)\n"
        "print('torch' in sys.modules, 'numpy' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "False"]

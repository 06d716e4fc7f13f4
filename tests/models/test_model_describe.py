"""Static layer costs against the real modules: names, parameters, FLOPs, bytes, operations; and no torch."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from asyncpipe.errors import UsageError
from asyncpipe.models.describe import LayerCost, describe
from asyncpipe.models.measure import measure_layers
from asyncpipe.models.modules import split_layers
from tests.small_models import LARGE, PLAIN, RECURRENT, RESIDUAL, SMALL, TRANSFORMERS, Small

ROOT = Path(__file__).parents[2]
SHAPES = [
    Small("mlp", {"hidden": [5]}, (17,)),
    Small("convnet", {"channels": [3, 5], "hidden": 7, "norm": "none"}, (3, 9, 13)),
    Small("convnet", {"channels": [4]}, (2, 1, 3)),
    Small("deep-narrow", {"layers": 4, "width": 6, "residual": False}, (5,)),
    Small("vit-tiny", {"layers": 1, "patch": 8}),
    Small("mixer", {"layers": 1, "patch": 8}),
]
STACKED = [*RECURRENT, Small("lstm", {"layers": 3, "hidden": 7}, (3, 5, 4))]


@pytest.mark.parametrize("small", [*PLAIN, *RESIDUAL, *TRANSFORMERS, *SHAPES, *STACKED], ids=str)
def test_names_parameters_and_bytes_are_those_of_the_module(small: Small) -> None:
    costs = small.describe(6)
    with torch.device("meta"):
        layers = split_layers(small.build())
    assert [cost.name for cost in costs] == [layer for layer, _ in layers]
    value = small.samples(6).to("meta")
    for cost, (_, layer) in zip(costs, layers, strict=True):
        value = layer(value)
        parameters = list(layer.parameters())
        assert cost.parameters == sum(parameter.numel() for parameter in parameters)
        assert cost.parameter_bytes == sum(parameter.nbytes for parameter in parameters)
        assert cost.activation_bytes == value.nbytes


@pytest.mark.parametrize("small", [*PLAIN, *RESIDUAL, *TRANSFORMERS, *SHAPES], ids=str)
def test_flops_are_those_of_torchs_counter(small: Small) -> None:
    """On the meta device attention is made of products that the counter sees."""
    with torch.device("meta"):
        layers = split_layers(small.build())
    value = small.samples(6).to("meta")
    for cost, (_, layer) in zip(small.describe(6), layers, strict=True):
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


@pytest.mark.parametrize("small", [*PLAIN, *RESIDUAL, *TRANSFORMERS, *SHAPES], ids=str)
def test_description_equals_the_measurement(small: Small) -> None:
    names, layers = zip(*split_layers(small.build()), strict=True)
    assert small.describe(6) == measure_layers(layers, small.samples(6), names)


@pytest.mark.parametrize("small", LARGE, ids=str)
def test_description_of_a_large_network_equals_its_measurement(small: Small) -> None:
    with torch.device("meta"):
        names, layers = zip(*split_layers(small.build()), strict=True)
    assert small.describe(6) == measure_layers(layers, torch.empty(6, *small.shape, device="meta"), names)


@pytest.mark.parametrize("small", STACKED, ids=str)
def test_description_of_an_lstm_misses_at_most_two_operations(small: Small) -> None:
    """Whether its input is copied into another layout first depends on the shape."""
    names, layers = zip(*split_layers(small.build()), strict=True)
    measured = measure_layers(layers, small.samples(6), names)
    for stated, found in zip(small.describe(6), measured, strict=True):
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


@pytest.mark.parametrize("small", [*SMALL, *LARGE], ids=str)
def test_flops_and_activations_grow_with_the_batch_and_nothing_else_does(small: Small) -> None:
    for one, eight in zip(small.describe(1), small.describe(8), strict=True):
        assert eight == replace(one, forward_flops=8 * one.forward_flops, activation_bytes=8 * one.activation_bytes)


def test_empty_batch_is_refused() -> None:
    with pytest.raises(UsageError, match="batch of at least 1 sample, found 0"):
        describe("mlp", {}, (1, 8, 8), 10, 0)


def test_description_needs_no_torch() -> None:
    code = (
        "import sys, asyncpipe.models, asyncpipe.models.describe as d\n"
        "shapes = {'gpt': (8,)}\n"
        "assert all(d.describe(name, {}, shapes.get(name, (1, 8, 8)), 10, 4) for name in asyncpipe.models.NAMES)\n"
        "print('torch' in sys.modules, 'numpy' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "False"]

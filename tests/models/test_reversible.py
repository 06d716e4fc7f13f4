"""Modules with an inverse."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from asyncpipe.errors import UsageError
from asyncpipe.models import build
from asyncpipe.models.modules import split_layers
from asyncpipe.models.reversible import ChannelPadding, Coupling, RepeatedChannels, SpaceToDepth
from asyncpipe.runtime.recompute import input_from_output


def randn(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def coupling() -> Coupling:
    torch.manual_seed(0)
    return Coupling(nn.Linear(3, 3).double(), nn.Sequential(nn.Linear(3, 3).double(), nn.Tanh()))


def test_coupling_is_equation_8_of_the_paper() -> None:
    block, x = coupling(), randn(5, 6)
    x1, x2 = x[:, :3], x[:, 3:]
    y1 = x1 + block.f(x2)
    assert torch.equal(block(x), torch.cat((y1, x2 + block.g(y1)), 1))


@pytest.mark.parametrize(
    ("module", "x"),
    [
        (coupling(), randn(5, 6)),
        (SpaceToDepth(2), randn(2, 3, 4, 6)),
        (ChannelPadding(3, 8), randn(2, 3, 4, 4)),
        (RepeatedChannels(3, 8), randn(2, 3, 4, 4)),
    ],
    ids=lambda value: type(value).__name__,
)
def test_inverse_gives_the_input_back(module: Any, x: Tensor) -> None:
    torch.testing.assert_close(module.inverse(module(x)), x, rtol=0, atol=1e-14)


def test_padding_adds_zeros_to_features_too() -> None:
    padded = ChannelPadding(2, 3)(randn(4, 2))
    assert padded.shape == (4, 3)
    assert not padded[:, 2].any()


def test_channels_are_repeated_in_turn() -> None:
    images = randn(2, 3, 4, 4)
    assert torch.equal(RepeatedChannels(3, 8)(images), images[:, [0, 1, 2, 0, 1, 2, 0, 1]])


def test_all_layers_of_a_revnet_but_the_last_have_an_inverse() -> None:
    """In training, when norms see the statistics of the batch."""
    torch.manual_seed(0)
    model = build("revnet", {"channels": 8, "blocks": [1, 2, 1]}, (3, 8, 8), 10).double()
    layers = [layer for _, layer in split_layers(model)]
    assert len(layers) == 5
    x = images = randn(4, 3, 8, 8)
    for layer in layers[:-1]:
        x = layer(x)
    assert x.shape == (4, 128, 2, 2)
    for layer in reversed(layers[:-1]):
        x = input_from_output(layer, x)
    torch.testing.assert_close(x, images, rtol=0, atol=1e-12)


def test_an_odd_number_of_channels_has_no_halves() -> None:
    with pytest.raises(UsageError, match=r"even size of dimension 1, found a tensor of \(5, 3\)"):
        coupling()(randn(5, 3))

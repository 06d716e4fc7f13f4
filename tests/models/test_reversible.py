"""Modules with an inverse."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from asyncpipe.errors import UsageError
from asyncpipe.models.reversible import ChannelPadding, Coupling, SpaceToDepth


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
    [(coupling(), randn(5, 6)), (SpaceToDepth(2), randn(2, 3, 4, 6)), (ChannelPadding(3, 8), randn(2, 3, 4, 4))],
    ids=["coupling", "space to depth", "channel padding"],
)
def test_inverse_gives_the_input_back(module: Coupling | SpaceToDepth | ChannelPadding, x: Tensor) -> None:
    torch.testing.assert_close(module.inverse(module(x)), x, rtol=0, atol=1e-14)


def test_padding_adds_zeros_to_features_too() -> None:
    padded = ChannelPadding(2, 3)(randn(4, 2))
    assert padded.shape == (4, 3)
    assert not padded[:, 2].any()


def test_an_odd_number_of_channels_has_no_halves() -> None:
    with pytest.raises(UsageError, match=r"even size of dimension 1, found a tensor of \(5, 3\)"):
        coupling()(randn(5, 3))

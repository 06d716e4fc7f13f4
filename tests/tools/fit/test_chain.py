"""Modules that are no nn.Sequential: where they could be cut, and how they would be written."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from asyncpipe.tools.fit.chain import Chain, find_chain
from tests.tools.fit import models


def chain_of(model: nn.Module, *shape: int) -> Chain:
    torch.manual_seed(0)
    return find_chain(model, torch.randn(*shape))


def test_a_chain_is_rewritten_with_its_functions_as_modules() -> None:
    model = models.Network()
    found = chain_of(model, 4, 1, 4, 4)
    assert [link.name for link in found.links] == ["convolution", "blocks.0", "blocks.1", "head"]
    assert found.rewritten == (
        "torch.nn.Sequential(model.convolution, torch.nn.ReLU(), torch.nn.Flatten(start_dim=1, end_dim=-1), "
        "*model.blocks, model.head)"
    )
    sequence = eval(found.rewritten, {"torch": torch, "model": model})
    sample = torch.randn(4, 1, 4, 4)
    assert torch.equal(sequence(sample), model(sample))


def test_a_skip_connection_leaves_cuts_outside_of_it() -> None:
    found = chain_of(models.Skipping(), 4, 8)
    assert found.rewritten == ""
    assert [(link.name, link.crossing) for link in found.links] == [
        ("first", (128, 128)),
        ("second", (128, 128)),
        ("third", (128,)),
        ("head", (64,)),
    ]
    assert [name for name, _ in found.glue] == ["add"]


class Halves(nn.Module):
    """Uses its children in another way than one after another."""

    def __init__(self) -> None:
        super().__init__()
        self.left = nn.Linear(4, 4)
        self.right = nn.Linear(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        a, b = x.chunk(2, dim=1)
        return torch.cat([self.left(a), self.right(b)], 1)


def test_what_only_looks_like_a_chain_is_not_rewritten() -> None:
    assert chain_of(Halves(), 2, 8).rewritten == ""


class Swapped(nn.Module):
    """Calls its children in an order other than that of their names, one of them twice."""

    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Linear(4, 4)
        self.b = nn.Linear(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.b(self.a(self.b(x)))  # type: ignore[no-any-return]


def test_children_are_taken_in_the_order_of_their_calls() -> None:
    assert chain_of(Swapped(), 2, 4).rewritten == "torch.nn.Sequential(model.b, model.a, model.b)"


def test_a_model_without_children_has_no_links() -> None:
    assert chain_of(models.FourSamples(), 4, 8) == Chain(())

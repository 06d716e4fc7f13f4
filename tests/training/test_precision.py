"""`precision` of a job's optimizer reaches the updates of a model in half precision."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from asyncpipe import Trainer
from asyncpipe.errors import UsageError
from asyncpipe.schedule import Schedule, load

BATCHES = 6


def new_model() -> nn.Sequential:
    torch.manual_seed(1)
    return nn.Sequential(nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 3)).bfloat16()


def batches() -> list[tuple[Tensor, Tensor]]:
    generator = torch.Generator().manual_seed(2)
    inputs = torch.randn(BATCHES, 4, 6, generator=generator).bfloat16()
    return list(zip(inputs, torch.randint(3, (BATCHES, 4), generator=generator), strict=True))


def trained(precision: Any, schedule: str | Schedule = "sgd", **more: object) -> list[Tensor]:
    model = new_model()
    optimizer = {"use": "sgd", "lr": 0.01, "momentum": 0.9, "precision": precision} | more
    Trainer(model, schedule=schedule, loss=cross_entropy, optimizer=optimizer, backend="serial", stages=2).fit(
        batches()
    )
    return [parameter.detach() for parameter in model.parameters()]


def test_master_copies_train_as_a_plain_loop_over_float32_copies_does() -> None:
    model = new_model()
    masters = [nn.Parameter(parameter.detach().float()) for parameter in model.parameters()]
    optimizer = torch.optim.SGD(masters, lr=0.01, momentum=0.9)
    for value, target in batches():
        gradients = torch.autograd.grad(cross_entropy(model(value), target), list(model.parameters()))
        for master, gradient in zip(masters, gradients, strict=True):
            master.grad = gradient.float()
        optimizer.step()
        for parameter, master in zip(model.parameters(), masters, strict=True):
            parameter.data.copy_(master.data)
    found = trained("master")
    assert all(torch.equal(one, other) for one, other in zip(found, model.parameters(), strict=True))
    assert any(not torch.equal(one, other) for one, other in zip(trained("plain"), found, strict=True))


def test_stochastic_rounding_trains_reproducibly() -> None:
    first, again, plain = trained("stochastic"), trained("stochastic"), trained("plain")
    assert all(torch.equal(one, other) for one, other in zip(first, again, strict=True))
    assert any(not torch.equal(one, other) for one, other in zip(first, plain, strict=True))


def test_master_copies_of_many_owners_that_add_are_refused() -> None:
    """Each would round the weights from a copy that lacks what the others have added."""
    own = ["update.owner=stream"]
    with pytest.raises(UsageError, match="with `write: atomic` and 2 owners of optimizer state"):
        trained("master", load("hogwild", [*own, "update.write=atomic", "streams.worker.count=2"]))
    trained("master", load("hogwild", [*own, "update.write=ordered", "streams.worker.count=2"]))
    trained("stochastic", load("hogwild", [*own, "update.write=atomic", "streams.worker.count=2"]))


def test_precision_that_an_update_cannot_have_is_refused() -> None:
    with pytest.raises(UsageError, match="optimizer precision must be plain or master or stochastic, found 'sharp'"):
        trained("sharp")
    with pytest.raises(UsageError, match=r"`precision: master` is for built-in optimizers, found torch\.optim\.SGD"):
        trained("master", use="torch.optim.SGD")
    with pytest.raises(UsageError, match="`precision: master` with gradient transforms, private or predicted weights"):
        trained("master", schedule="spectrain")

"""Modules that write into what they are given: stages hand them copies, and so compute what the whole model does."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from asyncpipe import Trainer
from asyncpipe.runtime.stage import Stage
from tests.networks import assert_same_state, batches


class AddOne(nn.Module):
    """In place, and on the way back as on the way there."""

    def forward(self, x: Tensor) -> Tensor:
        return x.add_(1)


def overwriting() -> nn.Sequential:
    """Every stage begins by overwriting its input; tanh needs its output once more."""
    torch.manual_seed(0)
    first = nn.Sequential(AddOne(), nn.Linear(64, 8), nn.Tanh())
    return nn.Sequential(first, nn.Sequential(nn.Identity(), AddOne(), nn.ReLU(inplace=True), nn.Linear(8, 10)))


def plain(data: list[tuple[Tensor, Tensor]]) -> nn.Sequential:
    """The same model with operations out of place."""
    model = overwriting()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for x, target in data:
        optimizer.zero_grad()
        hidden = torch.tanh(model[0][1](x + 1))  # type: ignore[index]
        cross_entropy(model[1][3](torch.relu(hidden + 1)), target).backward()  # type: ignore[index]
        optimizer.step()
    return model


@pytest.mark.parametrize(("schedule", "backend"), [("sgd", "serial"), ("sgd-ready", "threads"), ("gpipe", "serial")])
def test_stages_that_overwrite_their_input_train_and_leave_the_data_alone(schedule: str, backend: str) -> None:
    data = [(x.flatten(1), target) for x, target in batches(5 if schedule != "gpipe" else 1)]
    before = [x.clone() for x, _ in data]
    model = overwriting()
    Trainer(model, schedule, optimizer={"use": "sgd", "lr": 0.1}, backend=backend, stages=2).fit(data)
    assert_same_state(model, plain(data))
    assert all(torch.equal(x, old) for (x, _), old in zip(data, before, strict=True))


def test_copies_are_made_only_where_they_are_needed() -> None:
    trainer = Trainer(nn.Sequential(nn.Linear(64, 8), nn.Linear(8, 10)), "sgd", backend="serial", stages=2)
    trainer.fit([(x.flatten(1), target) for x, target in batches(2)])
    stages = [part for part in trainer.parts if isinstance(part, Stage)]
    assert [stage._overwrites_input for stage in stages] == [False, False]

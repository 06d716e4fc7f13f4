"""What somebody writes into the model between two fits is what every replica and every copy goes on from."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from asyncpipe import Trainer
from asyncpipe.errors import UserCodeError
from asyncpipe.schedule import load
from tests.networks import batches, built

STILL = {"use": "sgd", "lr": 0.0}


def filled(trainer: Trainer, value: float) -> None:
    with torch.no_grad():
        for parameter in trainer.model.parameters():
            parameter.fill_(value)


@pytest.mark.parametrize("name", ["ddp", "local-sgd", "diloco", "lapsgd", "layup", "pd-asgd-devices", "spectrain"])
def test_weights_set_between_fits_reach_every_copy(name: str) -> None:
    schedule = load(name)
    count = 2 * schedule.replicas.count
    trainer = Trainer(built("mlp"), schedule, optimizer={**STILL, "momentum": 0.5}, backend="serial", stages=2)
    trainer.fit(batches(count))
    filled(trainer, 0.25)
    trainer.fit(batches(count))
    for replica in trainer.replicas:
        for weights in replica.weights:
            copies = [weights.live, *weights.private.values(), *([weights.ahead] if weights.ahead else [])]
            for view in (view for arena in copies for view in arena.views):
                torch.testing.assert_close(view, torch.full_like(view, 0.25))


def test_a_drain_ends_a_round_of_diloco_with_an_outer_step() -> None:
    """A segment shorter than a round would otherwise never take one."""
    torch.manual_seed(4)
    trainer = Trainer(built("mlp"), "diloco", optimizer={"use": "sgd", "lr": 0.1}, backend="serial", stages=1)
    replicas = load("diloco").replicas.count
    trainer.prepare(batches(1)[0][0])
    start = [view.clone() for view in trainer.replicas[0].weights[0].live.views]
    trainer.fit(batches(2 * replicas))
    outer = trainer.synchroniser
    moved = [view - old for view, old in zip(trainer.replicas[0].weights[0].live.views, start, strict=True)]
    assert any(change.abs().max() > 0 for change in moved)
    velocity = outer.velocity[0].views  # type: ignore[union-attr]
    for change, v, gradient in zip(moved, velocity, velocity, strict=True):
        # The first step with Nesterov momentum mu: lr * (g + mu * v) with v = g.
        torch.testing.assert_close(change, -outer.lr * (gradient + outer.momentum * v))  # type: ignore[union-attr]


class FailsAt(nn.Module):
    def __init__(self, call: int) -> None:
        super().__init__()
        self.call = call
        self.calls = 0

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.calls += 1
        if self.calls == self.call:
            raise RuntimeError("no more")
        return x


def test_replicas_agree_after_a_failure() -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 10), FailsAt(6))
    trainer = Trainer(model, "local-sgd", optimizer={"use": "sgd", "lr": 0.1}, backend="serial", stages=1)
    with pytest.raises(UserCodeError, match="no more"):
        trainer.fit(batches(40))
    first, *others = trainer.replicas
    for other in others:
        for mine, theirs in zip(first.weights[0].live.views, other.weights[0].live.views, strict=True):
            assert torch.equal(mine, theirs)

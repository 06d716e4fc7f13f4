"""Random schedules on `serial`: they measure what the compiler states, and no gradient is lost or counted twice."""

from __future__ import annotations

from fractions import Fraction

import torch
from hypothesis import assume, given, settings
from torch import Tensor, nn

from asyncpipe import Trainer
from asyncpipe.compiler import Compiled
from asyncpipe.verify.trainable import slow_pushes, untrainable
from tests.compiler import properties
from tests.compiler.random_schedules import Case, cases
from tests.compiler.test_random_programs import instance

FEATURES = 3


class Bias(nn.Module):
    """y = x + b: the gradient of b is that of y, whatever the weights, and so is that of x."""

    def __init__(self) -> None:
        super().__init__()
        self.b = nn.Parameter(torch.zeros(FEATURES, dtype=torch.float64))

    def forward(self, x: Tensor) -> Tensor:
        return x + self.b


def weighted_sum(output: Tensor, target: Tensor) -> Tensor:
    return (output * target).sum()


def is_trainable(found: Compiled) -> bool:
    """By layers without an inverse."""
    refused = [*untrainable(found.schedule), *slow_pushes(found)]
    return not refused and found.schedule.recompute.mode != "invert"


def trained(found: Compiled, data: list[tuple[Tensor, Tensor]]) -> Trainer:
    model = nn.Sequential(*(Bias() for _ in range(found.stages)))
    trainer = Trainer(
        model, found.schedule, weighted_sum, {"use": "sgd", "lr": 1.0}, backend="serial", stages=found.stages
    )
    trainer.fit(data)
    return trainer


@settings(max_examples=12)
@given(cases())
def test_a_random_schedule_trains_as_stated(case: Case) -> None:
    found = instance(case)
    schedule = found.schedule
    assume(is_trainable(found))
    each = properties.long_enough(found, 2)
    generator = torch.Generator().manual_seed(0)
    draw = torch.randint(-4, 5, (each * schedule.replicas.count, 2, 2, FEATURES), generator=generator).double()
    data = [(x, target) for x, target in draw]
    trainer = trained(found, data)
    measured = trainer.staleness.summary()
    if schedule.update.scope == "all":
        assert_where_measured(measured["apply"], found.staleness.apply)
        assert_where_measured(measured["forward_backward"], found.staleness.forward_backward)
    if schedule.replicas.count == 1 and schedule.update.scope == "all" and schedule.aux.gradient == "chain":
        assert_all_gradients_are_in(trainer, [target.sum(0) for _, target in data])


def assert_where_measured(measured: list[float | None], stated: tuple[Fraction, ...]) -> None:
    """Few stages have no whole round between warmup and cooldown."""
    pairs = zip(measured, stated, strict=True)
    assert [float(value) for found, value in pairs if found is not None] == [m for m in measured if m is not None]


def assert_all_gradients_are_in(trainer: Trainer, gradients: list[Tensor]) -> None:
    """At a learning rate of 1 each stage is minus the sum of the means of all updates, or of their sums."""
    assert trainer.compiled is not None
    schedule, every = trainer.compiled.schedule, trainer.compiled.diagram.every
    groups = [torch.stack(gradients[first : first + every]) for first in range(0, len(gradients), every)]
    total = sum((group.mean(0) if schedule.update.reduce == "mean" else group.sum(0)) for group in groups)
    for bias in trainer.model.parameters():
        torch.testing.assert_close(bias.detach(), -total, rtol=1e-12, atol=1e-9)

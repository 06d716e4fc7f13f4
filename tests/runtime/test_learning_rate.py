"""The learning rate as a function of the update index, against torch's schedulers."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import pytest
import torch
from torch import nn
from torch.optim.lr_scheduler import CosineAnnealingLR, LinearLR, LRScheduler, SequentialLR

from asyncpipe.errors import UsageError
from asyncpipe.runtime.learning_rate import LearningRate

LR = 0.1


def new_optimizer() -> torch.optim.Optimizer:
    return torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=LR)


def rates_of(optimizer: torch.optim.Optimizer, scheduler: LRScheduler, updates: int) -> list[float]:
    rates = []
    for _ in range(updates):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    return rates


def test_constant_rate_never_changes() -> None:
    assert {LearningRate(LR).at(update) for update in (0, 1, 10**9)} == {LR}


def test_cosine_equals_the_closed_form() -> None:
    rate = LearningRate(LR, t_max=37, min_lr=0.003)
    scheduler = CosineAnnealingLR(new_optimizer(), T_max=37, eta_min=0.003)
    for update in range(38):
        scheduler.last_epoch = update
        assert rate.at(update) == scheduler._get_closed_form_lr()[0]


def test_cosine_follows_the_scheduler_of_torch() -> None:
    optimizer = new_optimizer()
    expected = rates_of(optimizer, CosineAnnealingLR(optimizer, T_max=37, eta_min=0.003), 38)
    rate = LearningRate(LR, t_max=37, min_lr=0.003)
    assert [rate.at(update) for update in range(38)] == pytest.approx(expected, rel=1e-12)


def test_cosine_ends_at_the_minimum_and_stays() -> None:
    rate = LearningRate(LR, t_max=10, min_lr=0.01)
    assert rate.at(0) == LR
    assert rate.at(10) == rate.at(11) == rate.at(1000) == 0.01


def test_warmup_follows_the_linear_scheduler_of_torch() -> None:
    optimizer = new_optimizer()
    expected = rates_of(optimizer, LinearLR(optimizer, start_factor=0.2, total_iters=7), 12)
    rate = LearningRate(LR, warmup=7, warmup_start=0.2 * LR)
    assert [rate.at(update) for update in range(12)] == pytest.approx(expected, rel=1e-12)
    assert rate.at(7) == LR


@pytest.mark.filterwarnings("ignore:The epoch parameter in `scheduler.step:UserWarning")
def test_cosine_after_warmup_follows_the_chained_schedulers_of_torch() -> None:
    optimizer = new_optimizer()
    warmup = LinearLR(optimizer, start_factor=0.2, total_iters=5)
    cosine = CosineAnnealingLR(optimizer, T_max=20)
    expected = rates_of(optimizer, SequentialLR(optimizer, [warmup, cosine], milestones=[5]), 26)
    rate = LearningRate(LR, t_max=20, warmup=5, warmup_start=0.2 * LR)
    assert [rate.at(update) for update in range(26)] == pytest.approx(expected, rel=1e-12, abs=1e-17)


def test_rate_is_a_plain_value() -> None:
    assert LearningRate(LR, t_max=3) == LearningRate(LR, t_max=3)
    with pytest.raises(dataclasses.FrozenInstanceError):
        LearningRate(LR).lr = 1.0  # type: ignore[misc]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"lr": -1.0}, "lr must be a finite number of at least 0, found -1.0"),
        ({"lr": math.nan}, "lr must be a finite number"),
        ({"lr": "1e-3"}, "lr must be a finite number of at least 0, found '1e-3'"),
        ({"lr": True}, "lr must be a finite number"),
        ({"lr": LR, "t_max": 0}, "t_max must be an integer of at least 1, found 0"),
        ({"lr": LR, "t_max": 1.5}, "t_max must be an integer"),
        ({"lr": LR, "warmup": -1}, "warmup must be an integer of at least 0, found -1"),
        ({"lr": LR, "min_lr": 0.2}, "min_lr must be at most lr = 0.1, found 0.2"),
        ({"lr": LR, "warmup_start": 0.2}, "warmup_start must be at most lr = 0.1, found 0.2"),
    ],
)
def test_wrong_values_are_named(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        LearningRate(**arguments)

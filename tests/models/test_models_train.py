"""Small versions of every family under real schedules: exact where the schedule is, learning where it is not."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from asyncpipe import Trainer
from asyncpipe.errors import UsageError
from asyncpipe.runtime.losses import cross_entropy
from tests.networks import assert_same_state
from tests.small_models import GPT, MIXER, VIT, Small, tokens

TRAINED = [
    Small("resnet", {"depth": 8}, (3, 8, 8), 4),
    Small("wrn", {"depth": 10, "width": 1}, (3, 8, 8), 4),
    tokens("lstm", {"hidden": 12}, every_step=False),
    tokens("lstm", {"hidden": 12}),
    tokens("gpt", {**GPT, "dropout": 0.0}),
    tokens("gpt", {**GPT, "dropout": 0.0, "tied": True}),
    Small("vit-tiny", VIT, classes=4),
    Small("mixer", MIXER, classes=4),
]


def batches(small: Small, count: int) -> list[tuple[Tensor, Tensor]]:
    """The same eight samples again and again."""
    return [(small.samples(8), small.targets(8))] * count


def seeded(small: Small) -> torch.nn.Sequential:
    torch.manual_seed(0)
    return small.build()


@pytest.mark.parametrize("small", TRAINED, ids=str)
def test_async_lu_learns_eight_samples(small: Small) -> None:
    data = batches(small, 24)
    stages = 1 if small.options.get("tied") else 3
    optimizer = {"use": "adam", "lr": 0.01}
    trainer = Trainer(seeded(small), "async-lu", cross_entropy, optimizer, backend="serial", stages=stages)
    report = trainer.fit(data)
    assert sum(report.losses[-3:]) < 0.9 * sum(report.losses[:3])
    accuracy = trainer.evaluate(data[:1])["accuracy"]
    assert accuracy is not None
    assert 0 < accuracy <= 1


@pytest.mark.parametrize("small", TRAINED, ids=str)
def test_exact_schedule_gives_the_weights_of_plain_pytorch(small: Small) -> None:
    data = batches(small, 3)
    ours, reference = seeded(small), seeded(small)
    stages = 1 if small.options.get("tied") else 3
    Trainer(ours, "sgd", cross_entropy, {"use": "sgd", "lr": 0.1}, backend="serial", stages=stages).fit(data)
    optimizer = torch.optim.SGD(reference.parameters(), lr=0.1)
    for samples, targets in data:
        optimizer.zero_grad()
        cross_entropy(reference(samples), targets).backward()
        optimizer.step()
    assert_same_state(ours, reference)


def test_resnet18_trains() -> None:
    small = Small("resnet18", {}, (3, 8, 8), 4)
    trainer = Trainer(seeded(small), "sgd", optimizer={"use": "sgd", "lr": 0.01}, backend="serial", stages=2)
    first, *_, last = trainer.fit(batches(small, 3)).losses
    assert last < first


def test_tied_gpt_cannot_be_cut() -> None:
    small = tokens("gpt", {**GPT, "tied": True})
    with pytest.raises(UsageError, match="the schedule has 2 stages, but the model has only 1 layer"):
        Trainer(small.build(), "async-lu", cross_entropy, stages=2).fit(batches(small, 1))

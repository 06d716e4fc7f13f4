"""Does `lr: {auto: x}` help? Test accuracy on digits, rates that are good without staleness, with and without it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from asyncpipe import Trainer, data, models
from asyncpipe.data.batches import Batches
from asyncpipe.data.dataset import DataSet, Split
from asyncpipe.errors import NumericalError

__all__ = ["automatic"]

STAGES = 4
BATCH = 32
RATES = {0.0: (0.2, 0.5), 0.5: (0.1, 0.25), 0.9: (0.02, 0.05)}
"""By momentum: what sgd trains well with, and one that it still bears."""
SCHEDULES = ("sgd", "async-bu", "pipedream")


def automatic(smoke: bool, epochs: int, seeds: int) -> Iterator[dict[str, Any]]:
    """A row for each momentum, rate and schedule; accuracies in percent by seed, None where the loss overflowed."""
    digits = data.load("digits", {})
    if smoke:
        digits = replace(digits, train=Split(digits.train.inputs[:64], digits.train.targets[:64]))
    for momentum, rates in list(RATES.items())[: 1 if smoke else None]:
        for rate in rates[: 1 if smoke else None]:
            for schedule in SCHEDULES:
                row: dict[str, Any] = {"schedule": schedule, "momentum": momentum, "lr": rate}
                # Without staleness both are the same, bit for bit.
                ways = {"number": rate, "auto": {"auto": rate}} if schedule != "sgd" else {"number": rate}
                for name, lr in ways.items():
                    options = {"use": "sgd", "lr": lr, "momentum": momentum}
                    found = [_accuracy(digits, schedule, options, epochs, seed) for seed in range(seeds)]
                    row[name] = [accuracy for accuracy, _ in found]
                    row["factors"] = found[-1][1]
                yield row


def _accuracy(
    digits: DataSet, schedule: str, optimizer: dict[str, Any], epochs: int, seed: int
) -> tuple[float | None, list[float]]:
    torch.manual_seed(seed)
    model = models.build("mlp", {"hidden": [64] * (STAGES - 1)}, digits.sample_shape, digits.classes)
    trainer = Trainer(model, schedule, optimizer=optimizer, backend="serial", stages=STAGES)
    train = Batches(digits.train, BATCH, seed=seed)

    def rows() -> Iterator[tuple[Tensor, Tensor]]:
        for epoch in range(epochs):
            yield from train.batches(epoch)

    try:
        trainer.fit(rows(), epochs * len(train))
    except NumericalError:
        return None, list(trainer.lr_factors)
    test = Batches(digits.test, 256, shuffle=False, drop_last=False)
    accuracy = trainer.evaluate(test.batches())["accuracy"]
    return None if accuracy is None else round(100 * accuracy, 2), list(trainer.lr_factors)

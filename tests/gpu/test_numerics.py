"""Precision, memory format and compilation on a real GPU: the training of the same back end without them."""

from __future__ import annotations

from typing import Any

import pytest

from asyncpipe import Trainer
from tests.networks import batches, built

pytestmark = pytest.mark.cuda

BACKENDS = ["streams", "graph"]
SGD = {"use": "sgd", "lr": 0.05, "momentum": 0.5}
CASES: list[Any] = [
    ({"autocast": "bf16"}, {}),
    ({"dtype": "bf16"}, {"precision": "master"}),
    ({"dtype": "bf16"}, {"precision": "stochastic"}),
    ({"memory_format": "channels_last"}, {}),
    pytest.param({"compile": "inductor"}, {}, marks=pytest.mark.slow),
    pytest.param({"autocast": "bf16", "compile": "inductor"}, {}, marks=pytest.mark.slow),
]


def learned(backend: str, numerics: dict[str, str], optimizer: dict[str, Any]) -> tuple[Trainer, float]:
    data = [(x, x.flatten(1)[:, :10].argmax(1)) for x, _ in batches(320, size=32)]
    trainer = Trainer(
        built("convnet"), "async-lu", optimizer=optimizer, backend=backend, emulate=True, stages=2, numerics=numerics
    )
    return trainer, sum(trainer.fit(data).losses[-40:]) / 40


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize(("numerics", "more"), CASES)
def test_a_training_learns_as_in_float32(backend: str, numerics: dict[str, str], more: dict[str, Any]) -> None:
    _, expected = learned(backend, {}, SGD)
    _, found = learned(backend, numerics, SGD | more)
    assert found == pytest.approx(expected, rel=0.25)


def test_muon_rounds_stochastically_in_a_graph() -> None:
    optimizer = {"use": "muon", "lr": 0.01, "precision": "stochastic"}
    _, found = learned("graph", {"dtype": "bf16"}, optimizer)
    _, expected = learned("streams", {"dtype": "bf16"}, optimizer)
    assert found == pytest.approx(expected, rel=0.25)


@pytest.mark.parametrize("backend", BACKENDS)
def test_kernels_count_every_microbatch(backend: str) -> None:
    trainer, _ = learned(backend, {}, SGD)
    device = trainer.staleness.summary()["device"]
    assert [sum(counts.values()) for counts in device["histogram"]] == [320, 320]

"""Measured divergence against what it must be: with a constant gradient, n updates move the weights n steps."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from asyncpipe import Trainer
from asyncpipe.runtime.divergence import DivergenceSampler
from tests.networks import assert_same_state, batches, built

LR = 0.125


def mean_output(output: Tensor, target: Tensor) -> Tensor:
    """Linear in the weights of a linear model, so that every gradient is the mean of the inputs."""
    return output.mean()


def constant_gradients(schedule: str, backend: str, every: int = 5) -> Trainer:
    torch.manual_seed(0)
    trainer = Trainer(
        nn.Sequential(nn.Linear(6, 3)),
        schedule,
        loss=mean_output,
        optimizer={"use": "sgd", "lr": LR},
        backend=backend,
        measure_every=every,
    )
    x = torch.randn(4, 6)
    trainer.fit([(x, torch.zeros(4))] * 60)
    trainer.fit([(x, torch.zeros(4))] * 7)
    return trainer


@pytest.mark.parametrize(
    ("schedule", "backend"), [("sgd", "serial"), ("async-bu", "serial"), ("hogwild", "serial"), ("sgd", "threads")]
)
def test_weights_move_a_step_for_each_update_between(schedule: str, backend: str) -> None:
    (samples,) = constant_gradients(schedule, backend).divergence.samples
    assert len(samples) in (13, 14)
    for sample in samples:
        step = LR * sample.gradient
        assert sample.lr == LR
        assert sample.forward_update == pytest.approx(sample.staleness * step, rel=1e-4, abs=1e-6)
        assert sample.forward_backward == pytest.approx(sample.updates_forward_backward * step, rel=1e-4, abs=1e-6)
    assert any(sample.staleness for sample in samples) is (schedule != "sgd")


def test_kept_weights_do_not_diverge_between_forward_and_backward() -> None:
    trainer = Trainer(built("mlp"), "pipedream", optimizer={"use": "sgd", "lr": LR}, backend="serial", measure_every=4)
    trainer.fit(batches(40))
    found = trainer.divergence.summary()
    assert found is not None
    assert found["forward_backward_max"] == [0.0] * len(trainer.parts)
    assert found["forward_update"][0] > 0
    assert trainer.divergence.largest_step == 0.0


def test_largest_values_are_of_whole_microbatches() -> None:
    trainer = Trainer(built("mlp"), "async-lu", backend="serial", stages=3, measure_every=1)
    trainer.fit(batches(30))
    record = trainer.divergence
    moved = [math.hypot(*(sample.forward_backward for sample in row)) for row in zip(*record.samples, strict=True)]
    assert len(moved) == 30
    assert record.largest_step == max(moved) > 0
    assert record.most_updates == 2


@pytest.mark.parametrize("schedule", ["async-lu", "lppsgd", "layup"])
def test_measuring_changes_no_result(schedule: str) -> None:
    models = [built("convnet") for _ in range(2)]
    for model, every in zip(models, (0, 3), strict=True):
        Trainer(model, schedule, backend="serial", measure_every=every).fit(batches(24))
    assert_same_state(*models)


@pytest.mark.parametrize("schedule", ["lppsgd", "passm-plus"])
def test_stages_that_others_update_keep_nothing_open(schedule: str) -> None:
    trainer = Trainer(built("mlp"), schedule, backend="serial", measure_every=2)
    seen: list[DivergenceSampler] = []
    trainer.fit(batches(24), poll=lambda group: seen.extend(execution.divergence for execution in group.executions))
    assert seen
    assert all(sampler._open == {} for sampler in seen)
    assert all(len(sampler.displacements) <= 4 for sampler in seen)


def test_one_microbatch_of_each_window_is_measured_at_changing_places() -> None:
    sampler = DivergenceSampler(8, first=16)
    chosen = [m + 16 for m in range(8 * 40) if sampler.wants(m)]
    assert [m // 8 for m in chosen] == list(range(2, 42))
    assert {m % 8 for m in chosen} == set(range(8))
    assert not any(DivergenceSampler(0).wants(m) for m in range(50))

"""Every schedule of the library trains on the CPU back ends; those without staleness are plain SGD."""

from __future__ import annotations

import pytest
import torch

from asyncpipe import Trainer
from asyncpipe.compiler import compile_schedule
from asyncpipe.schedule import library, load
from asyncpipe.verify.trainable import untrainable
from tests.networks import assert_same_state, batches, built, plain_loop, reversible

NAMES = list(library())
SYNCHRONOUS = {
    *("sgd", "sgd-overlap", "sgd-ready", "gpipe", "gpipe-recompute", "1f1b", "interleaved-1f1b"),
    *("interleaved-1f1b-greedy", "looped-bfs", "zb-h1", "zb-h1-greedy", "zbv", "dualpipev"),
}


def is_one_synchronous_model(name: str) -> bool:
    """No staleness, one replica, gradients from the loss: what computes the same as SGD."""
    schedule = load(name)
    stale = any(compile_schedule(schedule).staleness.apply)
    # PASSM+ updates one block of stages with each gradient.
    return not stale and schedule.replicas.count == 1 and schedule.aux.gradient == "chain" and name != "passm-plus"


def test_synchronous_and_asynchronous_schedules_are_those_of_their_papers() -> None:
    assert {name for name in NAMES if is_one_synchronous_model(name)} == SYNCHRONOUS


def test_no_schedule_of_the_library_is_refused() -> None:
    assert [name for name in NAMES if untrainable(load(name))] == []


@pytest.mark.parametrize("name", sorted(SYNCHRONOUS - {"dualpipev"}))
@pytest.mark.parametrize("backend", ["serial", "threads"])
def test_schedule_without_staleness_is_plain_sgd_bit_for_bit(name: str, backend: str) -> None:
    """With one microbatch in each update, in any order that a published pipeline takes; dualpipev needs more."""
    data = batches(6)
    reference, model = built("mlp"), built("mlp")
    expected = plain_loop(reference, data, lambda p: torch.optim.SGD(p, lr=0.05, momentum=0.9))
    schedule = load(name, ["update.every=1"])
    optimizer = {"use": "sgd", "lr": 0.05, "momentum": 0.9}
    report = Trainer(model, schedule, optimizer=optimizer, backend=backend, stages=2, intra_op_threads=1).fit(data)
    assert list(report.losses) == expected
    assert_same_state(model, reference)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("backend", ["serial", "threads"])
def test_loss_falls_under_every_schedule(name: str, backend: str) -> None:
    """On one batch again and again: in six updates at least."""
    schedule = load(name)
    replicas = min(2, schedule.replicas.count)
    schedule = load(name, [f"replicas.count={replicas}"] if replicas > 1 else [])
    torch.manual_seed(3)
    model, stages = (reversible(), 3) if name == "petra" else (built("mlp"), 4)
    data = batches(1, size=32) * (replicas * max(28, 6 * schedule.update.every))
    optimizer = {"use": "sgd", "lr": 0.2, "momentum": 0.5}
    trainer = Trainer(model, schedule, optimizer=optimizer, backend=backend, stages=stages, intra_op_threads=1)
    losses = trainer.fit(data).losses
    assert sum(losses[-4:]) < 0.98 * sum(losses[:4])

"""The schedules of the library on the CPU back ends: those without staleness are plain SGD, the others say why not."""

from __future__ import annotations

import pytest
import torch

from asyncpipe import Trainer
from asyncpipe.compiler import compile_schedule
from asyncpipe.errors import ScheduleError
from asyncpipe.schedule import library, load
from asyncpipe.verify.trainable import untrainable
from tests.networks import assert_same_state, batches, built, plain_loop

NAMES = list(library())
TRAINABLE = [name for name in NAMES if not untrainable(load(name))]
ASYNCHRONOUS = {"adl", "async-bu", "async-lu", "ddg", "hogwild", "nesterov-pp", "paci", "pd-asgd", "pipedream"}


def test_synchronous_and_asynchronous_schedules_are_those_of_their_papers() -> None:
    synchronous = {name for name in TRAINABLE if not any(compile_schedule(load(name)).staleness.apply)}
    assert synchronous | ASYNCHRONOUS == set(TRAINABLE)
    assert synchronous & ASYNCHRONOUS == set()


@pytest.mark.parametrize("name", sorted(set(TRAINABLE) - ASYNCHRONOUS - {"dualpipev"}))
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


@pytest.mark.parametrize("name", sorted(set(NAMES) - set(TRAINABLE)))
def test_what_cannot_be_trained_yet_is_refused_with_its_line(name: str) -> None:
    with pytest.raises(ScheduleError, match=r"AP108.*this version cannot train `") as caught:
        Trainer(built("mlp"), name)
    assert all(d.where is not None and d.where.line > 1 for d in caught.value.diagnostics)

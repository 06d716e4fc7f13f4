"""Where one stream runs all of a stage, or a barrier stands, real threads give what virtual time gives, bit for bit."""

from __future__ import annotations

import random
import time

import pytest
from torch import nn

from asyncpipe import Trainer
from asyncpipe.ir import Action
from asyncpipe.schedule import Schedule, load
from tests.semantics.plain import MOMENTUM, assert_same, batches, network

STAGES = 3
REPLICAS = {
    "ddp": ["replicas.count=2"],
    "local-sgd": ["replicas.count=2", "replicas.sync.average=3"],
    "diloco": ["replicas.count=2", "replicas.sync.outer.every=3"],
    "acco": ["replicas.count=2"],
}
MODULES = ["adl", "ddg", "dgl", "fdg", "fdg-paper-order", "fr", "pipelined-bp"]
PIPELINES = ["nesterov-pp", "paci", "pipedream", "pipedream-2bw", "pipemare", "spectrain"]


def run(schedule: Schedule, backend: str) -> nn.Sequential:
    """Threads are shaken by short sleeps before some actions."""
    chance = random.Random(0)

    def shake(stream: int, action: Action) -> None:
        if chance.random() < 0.1:
            time.sleep(2e-4)

    model = network(STAGES)
    hook = shake if backend == "threads" else None
    trainer = Trainer(
        model, schedule, optimizer=MOMENTUM, backend=backend, stages=STAGES, intra_op_threads=1, hook=hook
    )
    trainer.fit(batches(12 * schedule.replicas.count))
    return model


@pytest.mark.parametrize("name", [*MODULES, *PIPELINES, *REPLICAS])
def test_threads_give_the_bits_of_virtual_time(name: str) -> None:
    schedule = load(name, REPLICAS.get(name, []))
    expected = [list(run(schedule, "serial").parameters())]
    assert_same(run(schedule, "threads"), expected)

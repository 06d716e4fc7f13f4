"""Two real devices: what one thread gives on the CPU, over peer copies and graphs of both."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from asyncpipe import Trainer
from asyncpipe.errors import MachineError
from tests.conftest import count_cuda_devices
from tests.networks import batches, built

pytestmark = [pytest.mark.cuda, pytest.mark.multi_gpu]

SGD = {"use": "sgd", "lr": 0.05, "momentum": 0.9}


@pytest.mark.parametrize("backend", ["streams", "graph"])
@pytest.mark.parametrize("name", ["1f1b", "pipedream", "fdg", "zb-h1", "ddg"])
def test_a_pipeline_over_two_devices_trains_as_on_serial(name: str, backend: str) -> None:
    data = batches(64)
    trainer = Trainer(built("mlp"), name, optimizer=SGD, backend=backend, stages=2)
    expected = Trainer(built("mlp"), name, optimizer=SGD, backend="serial", stages=2).fit(data).losses
    assert list(trainer.fit(data).losses) == pytest.approx(list(expected), rel=1e-3)
    assert {part.arena.layout.device.index for part in trainer.parts} == {0, 1}
    assert trainer.evaluate(data[:4])["loss"] > 0


@pytest.mark.parametrize("backend", ["streams", "graph"])
def test_two_devices_give_the_bits_of_one(backend: str) -> None:
    data = batches(64)
    found = [
        Trainer(built("mlp"), "1f1b", optimizer=SGD, backend=backend, stages=2, emulate=emulate).fit(data).losses
        for emulate in (True, False)
    ]
    assert found[0] == found[1]


def test_more_devices_than_there_are_need_emulation() -> None:
    stages = count_cuda_devices() + 1
    model = nn.Sequential(*(nn.Linear(6, 6) for _ in range(stages)))
    trainer = Trainer(model, "1f1b", optimizer=SGD, backend="streams", stages=stages)
    with pytest.raises(MachineError, match=f"asks for {stages} devices"):
        trainer.fit([(torch.ones(4, 6), torch.zeros(4, dtype=torch.int64))] * 8)

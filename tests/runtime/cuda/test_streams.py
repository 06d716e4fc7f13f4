"""`streams` on the recording runtime: every schedule of the library, without a race and with the results of serial."""

from __future__ import annotations

from unittest.mock import Mock

import pytest
import torch
from torch import nn

from asyncpipe import Trainer
from asyncpipe.models.reversible import Coupling
from asyncpipe.runtime.cuda.recording.cuda import RecordingCuda
from asyncpipe.runtime.replicas import Push
from asyncpipe.runtime.traced import joint, traces
from asyncpipe.schedule import library, load
from tests.networks import assert_same_state
from tests.runtime.cuda.recorded import SGD, assert_same_staleness, microbatches, network, on_serial, pairs, recorded


def reversible() -> nn.Sequential:
    return nn.Sequential(*(Coupling(nn.Linear(3, 3), nn.Linear(3, 3)) for _ in range(3)), nn.Linear(6, 6))


@pytest.mark.usefixtures("traced_once")
@pytest.mark.parametrize("name", library())
def test_a_schedule_issues_without_a_race_and_trains_as_on_serial(name: str) -> None:
    make = reversible if name == "petra" else network
    model, reference = make(), make()
    reference.load_state_dict(model.state_dict())
    data = pairs(microbatches(name, 12 if microbatches(name, 1) == 1 else 5))
    cuda = RecordingCuda()
    trainer, _ = recorded(model, name, "streams", cuda)
    torch.manual_seed(11)
    losses = trainer.fit(data).losses
    assert [call for call in cuda.calls if call.startswith("host reads")] == []
    torch.manual_seed(11)
    serial = Trainer(reference, name, optimizer=SGD, backend="serial", stages=4)
    expected = serial.fit(data).losses
    assert_same_staleness(trainer, serial, steady=False)
    if name == "layup":
        # The same pushes to the same peers, but at one instant `serial` takes the replicas one by one through U and
        # its push, and `streams` all of them through U first: a push mixes with its peer before or after that U.
        assert shares(trainer) == shares(serial)
        return
    assert list(losses) == list(expected)
    assert_same_state(model, reference)


def test_replicas_run_the_traces_of_the_first(monkeypatch: pytest.MonkeyPatch) -> None:
    """A trace takes about a second."""
    traced = Mock(wraps=joint.trace)
    monkeypatch.setattr(traces, "trace", traced)
    model = network(2)
    trainer, _ = recorded(model, load("ddp", ["replicas.count=3"]), "streams", RecordingCuda(), stages=2)
    trainer.fit(pairs(6))
    reference = on_serial(network(2), load("ddp", ["replicas.count=3"]), pairs(6), stages=2)
    assert traced.call_count == 2
    assert_same_state(model, reference.model)


def shares(trainer: Trainer) -> list[list[float]]:
    assert isinstance(trainer.synchroniser, Push)
    return trainer.synchroniser.shares

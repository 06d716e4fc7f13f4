"""Schedules on as many devices as they ask for, on the recording runtime: no races, and the bits of `serial`."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any, Literal

import pytest
import torch

from asyncpipe import Trainer
from asyncpipe.compiler import compile_schedule
from asyncpipe.errors import MachineError, UsageError
from asyncpipe.runtime.cuda.recording.cuda import RecordingCuda
from asyncpipe.schedule import Schedule, load
from tests.networks import assert_same_state
from tests.runtime.cuda.recorded import MANY_DEVICES, SGD, assert_same_staleness, network, pairs, recorded
from tests.runtime.cuda.test_streams import reversible

pytestmark = pytest.mark.usefixtures("traced_once_each")

FAST = {
    "streams": {"1f1b", "dni", "pd-asgd-devices"},
    "graph": {"1f1b", "pd-asgd-devices"},
}
CAPTURED = [name for name in MANY_DEVICES if name != "dni"]
LARGE_UPDATES = [name for name in MANY_DEVICES if load(name).update.every == 8 and name != "dualpipev"]
LONG = {"adl": 110, "dualpipev": 100}


def chosen(names: list[str], kind: Literal["streams", "graph"]) -> list[Any]:
    fast: Collection[str] = FAST[kind]
    return [name if name in fast else pytest.param(name, marks=pytest.mark.slow) for name in names]


def devices_of(schedule: Schedule) -> int:
    return 1 + max(stream.device for stream in compile_schedule(schedule, 4).program().streams)


def trained(schedule: Schedule, kind: Literal["streams", "graph"], microbatches: int, seed: int | None) -> list[str]:
    """On both, with the same result; the calls of the recording."""
    make = reversible if schedule.name == "petra" else network
    model, reference = make(), make()
    reference.load_state_dict(model.state_dict())
    cuda = RecordingCuda(devices=devices_of(schedule), seed=seed)
    assert cuda.devices > 1
    trainer, _ = recorded(model, schedule, kind, cuda)
    data = pairs(microbatches)
    torch.manual_seed(11)
    losses = trainer.fit(data).losses
    serial = Trainer(reference, schedule, optimizer=SGD, backend="serial", stages=4)
    torch.manual_seed(11)
    assert list(losses) == list(serial.fit(data).losses)
    assert_same_state(model, reference)
    if schedule.name != "pd-asgd-devices":
        assert_same_staleness(trainer, serial, steady=False)
    return cuda.calls


def count(calls: list[str], word: str) -> int:
    return sum(call.startswith(word) for call in calls)


@pytest.mark.parametrize("name", chosen(MANY_DEVICES, "streams"))
def test_streams_on_several_devices_give_the_bits_of_serial(name: str) -> None:
    calls = trained(load(name), "streams", 12, None)
    assert count(calls, "transfer") >= 24
    assert count(calls, "host reads") == 0


@pytest.mark.usefixtures("constant_rate")
@pytest.mark.parametrize("name", chosen(CAPTURED, "graph"))
def test_graphs_on_several_devices_give_the_bits_of_serial_in_any_order_of_their_nodes(name: str) -> None:
    schedule = load(name, ["update.every=2"] if name in LARGE_UPDATES else [])
    calls = trained(schedule, "graph", 30 if name in FAST["graph"] else LONG.get(name, 60), 1)
    assert count(calls, "launch") >= 2 * devices_of(schedule)


@pytest.mark.usefixtures("constant_rate")
def test_a_later_run_launches_the_graphs_of_the_first() -> None:
    schedule = load("pipedream")
    model, reference = network(2), network(2)
    cuda, data = RecordingCuda(devices=2, seed=2), pairs(24)
    trainer, _ = recorded(model, schedule, "graph", cuda, stages=2)
    serial = Trainer(reference, schedule, optimizer=SGD, backend="serial", stages=2)
    for part in (data[:12], data[12:]):
        assert list(trainer.fit(part).losses) == list(serial.fit(part).losses)
    assert_same_state(model, reference)


@pytest.mark.usefixtures("constant_rate")
@pytest.mark.parametrize("sync", ["{average: 2}", "{allreduce: grad}"])
@pytest.mark.parametrize("kind", ["streams", pytest.param("graph", marks=pytest.mark.slow)])
def test_replicas_share_the_devices_of_the_program(kind: Literal["streams", "graph"], sync: str) -> None:
    schedule = load("pipedream", ["replicas.count=2", f"replicas.sync={sync}", "devices=2"])
    model, reference, data = network(2), network(2), pairs(48 if kind == "graph" else 12)
    trainer, _ = recorded(model, schedule, kind, RecordingCuda(devices=2), stages=2)
    serial = Trainer(reference, schedule, optimizer=SGD, backend="serial", stages=2)
    assert list(trainer.fit(data).losses) == list(serial.fit(data).losses)
    assert_same_state(model, reference)


def test_more_devices_than_the_machine_has_are_refused() -> None:
    trainer, _ = recorded(network(), load("1f1b"), "streams", RecordingCuda(devices=3))
    with pytest.raises(MachineError, match="asks for 4 devices, and this machine has 3"):
        trainer.fit(pairs(8))


def test_lessons_between_devices_cannot_be_captured() -> None:
    trainer, _ = recorded(network(), "dni", "graph", RecordingCuda(devices=4))
    with pytest.raises(UsageError, match="teach the predictors of stages 0, 1, 2, and no graph can hold such lessons"):
        trainer.fit(pairs(8))


def test_a_stage_on_several_devices_needs_writes_that_overwrite() -> None:
    schedule = load("pd-asgd-devices", ["update.write=ordered"])
    trainer, _ = recorded(network(), schedule, "streams", RecordingCuda(devices=3))
    words = r"stage 0 is on device 0, and backward\[0\] and backward\[1\] .* which needs update: {write: overwrite}"
    with pytest.raises(UsageError, match=words):
        trainer.fit(pairs(8))

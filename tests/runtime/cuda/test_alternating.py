"""Two executable graphs in turn compute what one computes."""

from __future__ import annotations

import pytest

from asyncpipe.runtime.cuda.recording.cuda import RecordingCuda
from asyncpipe.runtime.rows import Rows
from asyncpipe.schedule import load
from tests.networks import assert_same_state
from tests.runtime.cuda.recorded import network, on_serial, pairs, recorded
from tests.runtime.cuda.test_resident import batches

pytestmark = pytest.mark.usefixtures("traced_once", "constant_rate")


@pytest.mark.parametrize(
    ("name", "seed", "first", "count", "launches"),
    [("async-lu", None, 22, 40, 3), pytest.param("pipedream", 1, 49, 98, 4, marks=pytest.mark.slow)],
)
def test_two_in_turn_give_the_bits_of_serial_over_several_runs(
    name: str, seed: int | None, first: int, count: int, launches: int
) -> None:
    model, reference = network(), network()
    cuda = RecordingCuda(seed=seed)
    trainer, platform = recorded(model, name, "graph", cuda)
    platform.executables = 2
    data = pairs(count)
    serial = on_serial(reference, name, data[:first])
    losses = trainer.fit(data[:first]).losses
    losses += trainer.fit(data[first:]).losses
    assert list(losses[first:]) == list(serial.fit(data[first:]).losses)
    assert_same_state(model, reference)
    graph = platform.facts["graph"]
    assert graph["graphs"] == 2
    assert sum(call.startswith("launch") for call in cuda.calls) >= launches


def test_two_in_turn_gather_their_batches_from_the_device() -> None:
    model, reference = network(), network()
    trainer, platform = recorded(model, load("sgd"), "graph", RecordingCuda(seed=4), period=2)
    platform.executables = 2
    data: list[tuple[Rows, Rows]] = batches(24)
    trainer.fit(data)
    on_serial(reference, load("sgd"), [(x.gathered(), y.gathered()) for x, y in data])
    assert_same_state(model, reference)
    assert platform.facts["data"]["place"] == "device"

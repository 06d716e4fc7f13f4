"""Data on the device: gathered within the graph, with the results of batches that come from the host."""

from __future__ import annotations

from unittest.mock import Mock

import pytest
import torch
from torch import Tensor

from asyncpipe import Trainer
from asyncpipe.errors import UsageError
from asyncpipe.runtime.cuda import resident
from asyncpipe.runtime.cuda.recording.cuda import RecordingCuda
from asyncpipe.runtime.cuda.resident import ResidentData
from asyncpipe.runtime.rows import Rows
from asyncpipe.schedule import load
from tests.networks import assert_same_state
from tests.runtime.cuda.recorded import SGD, network, recorded

pytestmark = pytest.mark.usefixtures("traced_once", "constant_rate")


def table() -> tuple[Tensor, Tensor]:
    draw = torch.Generator().manual_seed(5)
    return torch.randn(40, 6, generator=draw), torch.randint(6, (40,), generator=draw)


def batches(count: int, size: int = 4) -> list[tuple[Rows, Rows]]:
    x, y = table()
    draw = torch.Generator().manual_seed(7)
    chosen = [torch.randperm(40, generator=draw)[:size] for _ in range(count)]
    return [(Rows(x, rows), Rows(y, rows)) for rows in chosen]


def trained(name: str, kind: str, cuda: RecordingCuda, count: int = 24) -> Trainer:
    """As `serial` trains on the same batches from the host."""
    schedule = load(name, ["update.every=2"] if name == "1f1b" else [])
    model, reference = network(), network()
    trainer, _ = recorded(model, schedule, kind, cuda)  # type: ignore[arg-type]
    data = batches(count * schedule.replicas.count)
    torch.manual_seed(11)
    losses = trainer.fit(data).losses
    torch.manual_seed(11)
    serial = Trainer(reference, schedule, optimizer=SGD, backend="serial", stages=4)
    assert list(losses) == list(serial.fit([(x.gathered(), y.gathered()) for x, y in data]).losses)
    assert_same_state(model, reference)
    return trainer


def place(trainer: Trainer) -> dict[str, object]:
    found: dict[str, object] = trainer.platform.facts["data"]
    return found


@pytest.mark.parametrize(
    ("name", "kind"),
    [("1f1b", "graph"), pytest.param("pipedream", "graph", marks=pytest.mark.slow), ("sgd", "streams")],
)
def test_batches_gathered_on_the_device_are_those_of_the_host(name: str, kind: str) -> None:
    trainer = trained(name, kind, RecordingCuda(seed=1), count=26)
    x, y = table()
    assert place(trainer) == {
        "place": "device",
        "bytes": x.nbytes + y.nbytes,
        "reason": "the devices have room for them",
    }


def test_the_rows_of_later_periods_are_uploaded_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resident, "_PERIODS", 2)
    trained("async-lu", "graph", RecordingCuda(seed=None), count=24)


def test_a_launch_copies_nothing_from_the_host_but_rows_now_and_then(monkeypatch: pytest.MonkeyPatch) -> None:
    uploaded = Mock(side_effect=resident.ResidentBatches._upload)
    monkeypatch.setattr(resident.ResidentBatches, "_upload", lambda *arguments: uploaded(*arguments))
    cuda = RecordingCuda(seed=None)
    trained("sgd", "graph", cuda)
    assert sum(call.startswith("launch") for call in cuda.calls) > 15
    assert uploaded.call_count == 2  # inputs and targets


def test_a_later_run_goes_on_with_its_own_rows() -> None:
    model, reference = network(), network()
    trainer, _ = recorded(model, "sgd", "graph", RecordingCuda(seed=2))
    serial = Trainer(reference, "sgd", optimizer=SGD, backend="serial", stages=4)
    data = batches(20)
    for part in (data[:11], data[11:]):
        trainer.fit(part)
        serial.fit([(x.gathered(), y.gathered()) for x, y in part])
    assert_same_state(model, reference)


def test_data_that_do_not_fit_come_from_pinned_memory() -> None:
    model = network()
    x, y = torch.zeros(100_000, 6), torch.zeros(100_000, dtype=torch.int64)
    rows = torch.arange(4)
    trainer, _ = recorded(model, "sgd", "graph", RecordingCuda(seed=None, bytes_total=1 << 20))
    trainer.fit([(Rows(x, rows), Rows(y, rows))] * 12)
    found = place(trainer)
    assert (found["place"], found["bytes"]) == ("pinned", 0)
    assert "bytes left for 3200000 of data" in str(found["reason"])


def test_data_stay_on_the_host_where_that_is_asked_for() -> None:
    trainer, platform = recorded(network(), "sgd", "graph", RecordingCuda(seed=None))
    platform.resident.wanted = "pinned"
    assert len(trainer.fit(batches(12)).losses) == 12
    assert place(trainer) == {"place": "pinned", "bytes": 0, "reason": "asked for"}


@pytest.mark.slow
def test_local_losses_read_their_targets_several_times_and_from_the_host() -> None:
    trained("dgl", "graph", RecordingCuda(seed=None), count=24)


def test_batches_of_several_sizes_are_refused() -> None:
    data = batches(30)
    data[-2:-1] = batches(1, size=3)
    trainer, _ = recorded(network(), "sgd", "graph", RecordingCuda(seed=None))
    with pytest.raises(UsageError, match=r"AP712\]: a graph reads batches of one shape, \[\(4,\)\]; found \[\(3,\)\]"):
        trainer.fit(data)


def test_another_word_for_a_place_is_refused() -> None:
    with pytest.raises(UsageError, match="data: no place is called 'host'"):
        ResidentData(RecordingCuda(), "host")

"""`graph` on the recording runtime: captured periods, launched many times, train as the program says."""

from __future__ import annotations

import pytest
import torch

from asyncpipe import Trainer
from asyncpipe.errors import UsageError
from asyncpipe.runtime.cuda.recording.cuda import RecordingCuda
from asyncpipe.runtime.learning_rate import LearningRate
from asyncpipe.schedule import load
from tests.networks import assert_same_state
from tests.runtime.cuda.recorded import SGD, assert_same_staleness, microbatches, network, on_serial, pairs, recorded

pytestmark = pytest.mark.usefixtures("traced_once")

DETERMINISTIC = [
    *("sgd", "sgd-ready", "1f1b", "gpipe", "zb-h1", "pipedream", "ddg"),
    *(pytest.param(name, marks=pytest.mark.slow) for name in ("adl", "pipedream-2bw")),
]
LARGE_UPDATES = {"1f1b", "gpipe", "zb-h1", "pipedream-2bw"}
LONG = {"adl": 110, "lapsgd": 72}
RACING = [
    *("async-lu", "async-bu", "hogwild"),
    *(pytest.param(name, marks=pytest.mark.slow) for name in ("pipemare", "lapsgd")),
]
"""Readers of their parameters do not wait for updates: which ones they read is settled by the order of the nodes."""


def trained(name: str, seed: int | None, each: int | None = None) -> RecordingCuda:
    """On both, with the same result."""
    schedule = load(name, ["update.every=2"] if name in LARGE_UPDATES else [])
    model, reference = network(), network()
    data = pairs(microbatches(name, each or LONG.get(name, 60)))
    cuda = RecordingCuda(seed=seed)
    trainer, _ = recorded(model, schedule, "graph", cuda)
    torch.manual_seed(11)
    losses = trainer.fit(data).losses
    torch.manual_seed(11)
    serial = Trainer(reference, schedule, optimizer=SGD, backend="serial", stages=4)
    assert list(losses) == list(serial.fit(data).losses)
    assert_same_state(model, reference)
    assert_same_staleness(trainer, serial)
    return cuda


def launches(cuda: RecordingCuda) -> int:
    return sum(call.startswith("launch") for call in cuda.calls)


@pytest.mark.usefixtures("constant_rate")
@pytest.mark.parametrize("name", DETERMINISTIC)
def test_without_races_any_order_of_the_nodes_gives_the_bits_of_serial(name: str) -> None:
    cuda = trained(name, seed=1)
    assert launches(cuda) >= 2


@pytest.mark.usefixtures("constant_rate")
@pytest.mark.parametrize("name", RACING)
def test_with_races_the_order_of_issue_gives_the_bits_of_serial(name: str) -> None:
    cuda = trained(name, seed=None)
    assert launches(cuda) >= 2


@pytest.mark.usefixtures("constant_rate")
def test_racing_parameters_make_the_order_of_the_nodes_matter() -> None:
    found = []
    for seed in (None, 1):
        model = network()
        trainer, _ = recorded(model, "async-lu", "graph", RecordingCuda(seed=seed))
        found.append(trainer.fit(pairs(30)).losses)
    assert found[0] != found[1]
    assert found[0] == pytest.approx(found[1], rel=0.2)


@pytest.mark.usefixtures("constant_rate")
def test_a_later_run_launches_the_graph_of_the_first() -> None:
    model, reference = network(), network()
    data = pairs(48)
    cuda = RecordingCuda(seed=3)
    trainer, _ = recorded(model, "1f1b", "graph", cuda)
    serial = on_serial(reference, "1f1b", data[:24])
    found = trainer.fit(data[:24]).losses
    first = launches(cuda)
    found += trainer.fit(data[24:]).losses
    assert list(found[24:]) == list(serial.fit(data[24:]).losses)
    assert_same_state(model, reference)
    assert launches(cuda) > 2 * first - 1


@pytest.mark.usefixtures("fused")
def test_the_rate_changes_without_a_new_capture() -> None:
    model, reference = network(1), network(1)
    trainer, _ = recorded(model, "sgd-ready", "graph", RecordingCuda(seed=2), stages=1)
    rate = LearningRate(0.1, t_max=12)
    trainer.rate = rate
    trainer.fit(pairs(12))
    serial = Trainer(reference, "sgd-ready", optimizer=SGD, backend="serial", stages=1, learning_rate=rate)
    serial.fit(pairs(12))
    assert_same_state(model, reference)


@pytest.mark.parametrize(
    ("name", "words"),
    [("passm-plus", "update.scope"), ("acco", "update.commit: 2"), ("layup", "replicas.sync: push")],
)
def test_what_changes_on_the_host_cannot_be_a_graph(name: str, words: str) -> None:
    trainer, _ = recorded(network(), name, "graph", RecordingCuda())
    with pytest.raises(UsageError, match=words):
        trainer.fit(pairs(microbatches(name, 12)))


@pytest.mark.usefixtures("constant_rate")
def test_batches_of_another_shape_are_refused() -> None:
    data = pairs(30)
    data[-2] = (data[-2][0][:2], data[-2][1][:2])
    trainer, _ = recorded(network(), load("sgd"), "graph", RecordingCuda(seed=None))
    with pytest.raises(UsageError, match=r"a graph reads batches of one shape, \[\(4, 6\)\]; found \[\(2, 6\)\]"):
        trainer.fit(data)


@pytest.mark.usefixtures("constant_rate")
def test_a_short_run_is_issued_eagerly() -> None:
    model, reference = network(), network()
    cuda = RecordingCuda()
    trainer, _ = recorded(model, "async-lu", "graph", cuda)
    trainer.fit(pairs(4))
    on_serial(reference, "async-lu", pairs(4))
    assert_same_state(model, reference)
    assert launches(cuda) == 0


@pytest.mark.usefixtures("fused")
def test_lessons_of_a_predictor_are_captured() -> None:
    trainer, _ = recorded(network(2), "dni", "graph", RecordingCuda(seed=None), stages=2)
    assert len(trainer.fit(pairs(12)).losses) == 12


@pytest.mark.usefixtures("constant_rate")
def test_a_later_run_begins_with_slots_that_the_first_had_used() -> None:
    """Where the warmup leaves slots empty, an eager period fills them before the graph takes over."""
    model, reference = network(), network()
    schedule = load("1f1b", ["update.every=2"])
    trainer, _ = recorded(model, schedule, "graph", RecordingCuda(seed=1))
    serial = Trainer(reference, schedule, optimizer=SGD, backend="serial", stages=4)
    for _ in range(2):
        assert list(trainer.fit(pairs(60)).losses) == list(serial.fit(pairs(60)).losses)
    assert_same_state(model, reference)


@pytest.mark.usefixtures("constant_rate")
def test_losses_are_known_between_graphs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Metrics and progress show them while the run goes."""
    monkeypatch.setattr("asyncpipe.runtime.cuda.streams._POLL_SECONDS", 0)
    known: list[int] = []
    trainer, _ = recorded(network(), load("async-lu"), "graph", RecordingCuda())
    trainer.fit(
        pairs(60), poll=lambda group: known.append(sum(moment is not None for moment in group.executions[0].moments))
    )
    assert known == sorted(known)
    assert len({count for count in known if 0 < count < 60}) >= 3

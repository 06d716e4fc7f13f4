"""What outlives what: addresses in a graph, threads, runs that failed, work on the default stream."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from typing import Literal

import pytest
import torch

from asyncpipe.errors import UserCodeError
from asyncpipe.runtime.cuda.capture import _Capture
from asyncpipe.runtime.cuda.recording.cuda import RecordingCuda
from asyncpipe.runtime.cuda.recording.violation import Violation
from tests.runtime.cuda.recorded import SGD, Pair, network, pairs, recorded

VERSION = tuple(int(part) for part in torch.__version__.split(".")[:2])
FREED = "memory of a graph was freed"


@pytest.mark.skipif(VERSION < (2, 13), reason="torch 2.11 crashes after fake tensors in a thread that has ended")
@pytest.mark.usefixtures("fused", "traced_once")
def test_a_graph_is_launched_after_the_thread_of_its_capture_has_ended() -> None:
    """Its updates read their rate where that thread has put it."""
    trainer, _ = recorded(network(1), "sgd-ready", "graph", RecordingCuda(), SGD, stages=1)
    data = pairs(12)
    first = threading.Thread(target=trainer.fit, args=(data[:6],))
    first.start()
    first.join()
    assert len(trainer.fit(data[6:]).losses) == 6


@pytest.mark.usefixtures("fused", "traced_once")
def test_a_graph_whose_table_of_addresses_is_gone_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_Capture, "tables", [])
    trainer, _ = recorded(network(1), "sgd-ready", "graph", RecordingCuda(), SGD, stages=1)
    with pytest.raises(Violation, match=FREED):
        trainer.fit(pairs(8))


def ending(data: Sequence[Pair]) -> Iterator[Pair]:
    yield from data
    raise OSError("the disk is gone")


@pytest.mark.usefixtures("constant_rate", "traced_once")
@pytest.mark.parametrize("executables", [1, 2])
def test_losses_of_a_run_that_failed_are_not_those_of_the_next(executables: int) -> None:
    trainer, platform = recorded(network(1), "sgd-ready", "graph", RecordingCuda(), SGD, stages=1)
    platform.executables = executables
    data = pairs(40)
    with pytest.raises(UserCodeError, match="the disk is gone"):
        trainer.fit(ending(data[:30]), microbatches=40)
    losses = trainer.fit(data[:8]).losses
    assert len(losses) == 8
    assert all(loss == loss for loss in losses)


class Waiting(RecordingCuda):
    """Notes where among the calls the host has waited for everything."""

    def settle(self, devices: Sequence[int]) -> None:
        super().settle(devices)
        self.calls.append("settle")


@pytest.mark.usefixtures("constant_rate", "traced_once")
@pytest.mark.parametrize("kind", ["streams", "graph"])
def test_the_host_waits_for_default_streams_before_a_run_and_for_all_after_a_failure(
    kind: Literal["streams", "graph"],
) -> None:
    cuda = Waiting()
    trainer, _ = recorded(network(1), "sgd-ready", kind, cuda, SGD, stages=1)
    trainer.fit(pairs(8))
    assert cuda.calls[0] == "settle"
    assert cuda.calls.count("settle") == 1
    with pytest.raises(UserCodeError):
        trainer.fit(ending(pairs(6)), microbatches=8)
    assert cuda.calls[-1] == "settle"
    assert cuda.calls.count("settle") == 3

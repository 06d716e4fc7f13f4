"""What only a device shows: planned memory against allocated, gathered batches, SMs of their own, counted nodes."""

from __future__ import annotations

import pytest
import torch

from asyncpipe import Trainer
from asyncpipe.errors import MachineError
from asyncpipe.runtime.cuda.device import DeviceCuda
from asyncpipe.runtime.rows import Rows
from asyncpipe.schedule import load
from tests.networks import batches, built

pytestmark = pytest.mark.cuda

SGD = {"use": "sgd", "lr": 0.05, "momentum": 0.9}


def test_a_plan_is_near_what_is_allocated_at_most() -> None:
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    trainer = Trainer(built("convnet"), "async-lu", optimizer=SGD, backend="streams", stages=3)
    trainer.fit(batches(40, size=256))
    (planned,) = trainer.platform.facts["memory_plan"]["devices"]
    held = torch.cuda.max_memory_allocated() - before
    assert held / 2 <= planned["total"] <= 2 * held + (256 << 20)


def test_nodes_of_a_graph_are_counted() -> None:
    trainer = Trainer(built("mlp"), "async-lu", optimizer=SGD, backend="graph", stages=2)
    trainer.fit(batches(60))
    graph = trainer.platform.facts["graph"]
    assert graph["nodes"] > 10 * graph["period"]


@pytest.mark.parametrize("backend", ["streams", "graph"])
def test_gathered_batches_give_the_losses_of_copied_ones(backend: str) -> None:
    data = batches(1, size=256)
    x, y = data[0]
    chosen = [torch.randperm(256, generator=torch.Generator().manual_seed(i))[:32] for i in range(60)]
    found = []
    for copied in (False, True):
        rows = [(Rows(x, c), Rows(y, c)) for c in chosen]
        fed = [(a.gathered(), b.gathered()) for a, b in rows] if copied else rows
        trainer = Trainer(built("mlp"), "sgd", optimizer=SGD, backend=backend, stages=2)
        found.append(trainer.fit(fed).losses)
        assert trainer.platform.facts["data"]["place"] == ("pinned" if copied else "device")
    assert found[0] == pytest.approx(found[1], rel=1e-5)


@pytest.mark.parametrize("backend", ["streams", "graph"])
def test_streams_with_sms_of_their_own_train(backend: str) -> None:
    schedule = load("async-lu", ["streams.forward.sms=64", "streams.backward.sms=16"])
    trainer = Trainer(built("mlp"), schedule, optimizer=SGD, backend=backend, stages=2)
    try:
        losses = trainer.fit(batches(4) * 20).losses
    except MachineError as error:
        pytest.skip(str(error))
    assert sum(losses[-8:]) < sum(losses[:8])


@pytest.mark.parametrize("backend", ["streams", "graph"])
def test_batches_that_lie_on_the_device_train_as_those_of_the_host(backend: str) -> None:
    """Made while the run goes on, on whatever stream is current then."""
    data, found = batches(60), []
    for fed in (data, ((x.cuda(), y.cuda()) for x, y in data)):
        trainer = Trainer(built("mlp"), "sgd", optimizer=SGD, backend=backend, stages=2)
        found.append(trainer.fit(fed, microbatches=60).losses)
    assert found[0] == pytest.approx(found[1], rel=1e-5)


def test_what_is_idle_in_the_pool_of_a_graph_counts_as_used() -> None:
    cuda = DeviceCuda()
    stream = cuda.stream(0)
    torch.cuda.empty_cache()
    before = cuda.memory(0)
    with cuda.capture(stream):
        torch.empty(64 << 20, dtype=torch.uint8, device="cuda").zero_()
        inside = torch.zeros(1, device="cuda")
    now = cuda.memory(0)
    assert now.used - before.used >= 64 << 20
    del inside


def test_a_generator_of_the_users_draws_anew_at_each_launch() -> None:
    """One made for "cuda" does not say for which."""
    cuda, generator = DeviceCuda(), torch.Generator("cuda")
    cuda.register_generator(generator)
    stream, found = cuda.stream(0), []
    with cuda.on(stream):
        place = torch.zeros(4, device="cuda")
    with cuda.capture(stream) as graph:
        place.copy_(torch.rand(4, device="cuda", generator=generator))
    for _ in range(2):
        cuda.launch(graph, stream)
        cuda.settle([0])
        found.append(place.tolist())
    assert found[0] != found[1]


def test_a_capture_that_fails_leaves_the_current_stream_as_it_was() -> None:
    cuda, before = DeviceCuda(), torch.cuda.current_stream()
    with pytest.raises(RuntimeError), cuda.capture(cuda.stream(0)):
        torch.zeros(1, device="cuda").item()
    assert torch.cuda.current_stream() == before

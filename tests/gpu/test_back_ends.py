"""`streams` and `graph` on a real GPU: against plain PyTorch there, and against `serial`."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from asyncpipe import Trainer
from tests.networks import batches, built

pytestmark = pytest.mark.cuda

SGD = {"use": "sgd", "lr": 0.05, "momentum": 0.9}
BACKENDS = ["streams", "graph"]


@pytest.fixture(autouse=True)
def deterministic() -> Iterator[None]:
    before = torch.are_deterministic_algorithms_enabled(), torch.backends.cudnn.enabled
    torch.use_deterministic_algorithms(True)
    torch.backends.cudnn.enabled = False  # traced stages use ATen's own batch norm
    yield
    torch.use_deterministic_algorithms(before[0])
    torch.backends.cudnn.enabled = before[1]


def plain_on_gpu(model: nn.Module, data: list[tuple[Tensor, Tensor]]) -> list[float]:
    model.cuda().train()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9, foreach=False)
    losses = []
    for x, target in data:
        loss = cross_entropy(model(x.cuda()), target.cuda())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


@pytest.mark.parametrize("network", ["mlp", "convnet"])
@pytest.mark.parametrize("backend", BACKENDS)
def test_sgd_is_plain_pytorch(backend: str, network: str) -> None:
    data = batches(60)
    expected = plain_on_gpu(built(network), data)
    trainer = Trainer(built(network), "sgd", optimizer=SGD, backend=backend, stages=2)
    assert list(trainer.fit(data).losses) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("name", ["sgd", "1f1b", "pipedream", "async-lu", "async-bu", "hogwild", "fdg", "ddp"])
def test_a_schedule_learns_as_on_serial(name: str, backend: str) -> None:
    data = [(x, x.flatten(1)[:, :10].argmax(1)) for x, _ in batches(320, size=32)]
    mild = {"use": "sgd", "lr": 0.05, "momentum": 0.5}
    found = Trainer(built("mlp"), name, optimizer=mild, backend=backend, emulate=True, stages=2).fit(data).losses
    expected = Trainer(built("mlp"), name, optimizer=mild, backend="serial", stages=2).fit(data).losses
    assert sum(found[-40:]) == pytest.approx(sum(expected[-40:]), rel=0.1)


def test_a_graph_gives_the_bits_of_streams_where_nothing_races() -> None:
    found = []
    for backend in BACKENDS:
        trainer = Trainer(built("convnet"), "1f1b", optimizer=SGD, backend=backend, stages=3, emulate=True)
        found.append(trainer.fit(batches(200)).losses)
    assert found[0] == found[1]


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_recurrent_network_trains(backend: str) -> None:
    torch.backends.cudnn.enabled = True
    losses = Trainer(built("lstm"), "async-lu", optimizer=SGD, backend=backend).fit(batches(4) * 40).losses
    assert sum(losses[-8:]) < 0.5 * sum(losses[:8])

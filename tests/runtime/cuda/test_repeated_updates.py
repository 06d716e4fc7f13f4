"""Updates that a graph repeats: their generators, their steps, their counts."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from asyncpipe import Trainer
from asyncpipe.errors import UsageError
from asyncpipe.runtime import optimizers
from asyncpipe.runtime.arena import Arena
from asyncpipe.runtime.cuda.recording.cuda import RecordingCuda
from asyncpipe.runtime.cuda.recording.violation import Violation
from asyncpipe.runtime.learning_rate import LearningRate
from asyncpipe.runtime.muon_rule import MuonRule
from asyncpipe.runtime.numerics import Numerics
from asyncpipe.runtime.optimizers import OptimizerSpec
from tests.runtime.cuda.recorded import SGD, network, pairs, recorded

MUON = {"use": "muon", "lr": 0.02}


@pytest.fixture
def muon_as_on_cuda(monkeypatch: pytest.MonkeyPatch) -> None:
    def rule(spec: OptimizerSpec, arena: Arena) -> MuonRule:
        return MuonRule(arena, spec.options, spec.arithmetic)

    monkeypatch.setattr(optimizers, "_builtin_rule", rule)


def on_graph(cuda: RecordingCuda, optimizer: Any, count: int = 16, **numerics: str) -> tuple[Trainer, list[float]]:
    model = network(1)
    form = Numerics(**numerics)
    form.convert(model)
    trainer, platform = recorded(model, "sgd-ready", "graph", cuda, optimizer, stages=1)
    platform.numerics = form
    trainer.rate = LearningRate(0.02, t_max=count)
    return trainer, list(trainer.fit(pairs(count)).losses)


@pytest.mark.usefixtures("muon_as_on_cuda")
def test_muon_goes_on_counting_in_a_graph() -> None:
    """AdamW's corrections of its first steps, for the bias, are other ones at each replay."""
    _, losses = on_graph(RecordingCuda(), MUON)
    trainer = Trainer(
        network(1), "sgd-ready", optimizer=MUON, backend="serial", stages=1, learning_rate=LearningRate(0.02, t_max=16)
    )
    assert losses == pytest.approx(list(trainer.fit(pairs(16)).losses), rel=1e-4)


@pytest.mark.usefixtures("muon_as_on_cuda")
def test_stochastic_rounding_draws_anew_at_each_replay() -> None:
    trainer, losses = on_graph(RecordingCuda(), MUON | {"precision": "stochastic"}, dtype="bf16")
    (optimizer,) = trainer.replicas[0].updates[0].optimizers.values()
    assert len(optimizer.generators) == 1
    assert losses[-1] < losses[0]


@pytest.mark.usefixtures("muon_as_on_cuda")
def test_a_generator_that_the_capture_does_not_know_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(RecordingCuda, "register_generator", lambda cuda, generator: None)
    with pytest.raises(Violation, match=r"a capture draws from a generator that it does not know: aten\.randint"):
        on_graph(RecordingCuda(), MUON | {"precision": "stochastic"}, dtype="bf16")


GENERATOR = torch.Generator()
VERSION = tuple(int(part) for part in torch.__version__.split(".")[:2])


class Noisy(nn.Module):
    """Draws from a generator of the user's."""

    def forward(self, x: Tensor) -> Tensor:
        return x + torch.rand(x.shape, generator=GENERATOR)


@pytest.mark.skipif(VERSION < (2, 13), reason="older versions of torch trace no generators")
@pytest.mark.usefixtures("constant_rate")
def test_generators_of_the_users_code_are_known_too() -> None:
    model = nn.Sequential(nn.Sequential(nn.Linear(6, 6), Noisy()))
    trainer, _ = recorded(model, "sgd-ready", "graph", RecordingCuda(), SGD, stages=1)
    assert len(trainer.fit(pairs(16)).losses) == 16


def test_an_optimizer_that_counts_on_the_host_is_refused() -> None:
    with pytest.raises(UsageError, match=r"optimizer torch\.optim\.Adam keeps its steps or its rate on the host"):
        on_graph(RecordingCuda(), {"use": "torch.optim.Adam", "lr": 0.02})


@pytest.mark.usefixtures("constant_rate", "traced_once")
def test_staleness_is_counted_where_kernels_run_and_not_where_they_are_issued() -> None:
    """The nodes of the graph run in other orders than they were issued in; a forward then finds another version."""
    trainer, _ = recorded(network(), "async-lu", "graph", RecordingCuda(seed=1), SGD)
    trainer.fit(pairs(40))
    found = trainer.staleness.summary()
    device = found["device"]
    assert [sum(counts.values()) for counts in device["histogram"]] == [40] * 4
    assert device["histogram"] != found["histogram"]
    assert all(mean is not None for mean in device["apply"])


@pytest.mark.usefixtures("constant_rate", "traced_once")
def test_the_host_knows_all_periods_but_the_last_while_they_run(monkeypatch: pytest.MonkeyPatch) -> None:
    from asyncpipe.runtime.cuda.counts import DeviceCounts

    known: list[int] = []
    real = DeviceCounts.read

    def read(counts: DeviceCounts, left: int = 0) -> None:
        real(counts, left)
        known.append(sum(counts.periods[0].values()) if counts.periods else 0)

    monkeypatch.setattr(DeviceCounts, "read", read)
    trainer, _ = recorded(network(), "sgd", "graph", RecordingCuda(), SGD, period=4)
    trainer.fit(pairs(24))
    *running, ended = known
    assert running == [0, 0, *range(4, 4 * len(running) - 4, 4)]
    assert ended == running[-1] + 4

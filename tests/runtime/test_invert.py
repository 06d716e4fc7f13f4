"""`recompute: invert`: reversible stages keep nothing, and go back from the output that comes with its gradient."""

from __future__ import annotations

from typing import Any, ClassVar

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from asyncpipe import Trainer
from asyncpipe.errors import UsageError
from asyncpipe.ir import Action, Op
from asyncpipe.models.reversible import Coupling
from asyncpipe.runtime.stage import Stage
from asyncpipe.schedule import load
from tests.networks import batches, reversible

Batch = tuple[Tensor, Tensor]


class Recorded(torch.optim.SGD):
    """SGD that keeps the gradients it was given: by the shape of the first parameter, one list for each step."""

    seen: ClassVar[list[list[Tensor]]] = []

    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        Recorded.seen.append([p.grad.clone() for group in self.param_groups for p in group["params"]])
        super().step(closure)


def doubles(count: int) -> list[Batch]:
    return [(x.double(), target) for x, target in batches(count, size=8)]


def model_of(seed: int = 3) -> nn.Sequential:
    torch.manual_seed(seed)
    return reversible().double()


def exact_gradients(model: nn.Sequential, pair: list[Batch]) -> list[Tensor]:
    sums = [torch.zeros_like(p) for p in model.parameters()]
    for x, target in pair:
        for total, one in zip(
            sums, torch.autograd.grad(cross_entropy(model(x), target), [*model.parameters()]), strict=True
        ):
            total += one / len(pair)
    return sums


@pytest.mark.parametrize("backend", ["serial", "threads"])
def test_without_a_learning_rate_the_gradients_are_exact(backend: str) -> None:
    """Papers: PETRA with lr = 0. An update has two microbatches; three stages, so 3 x 4 steps."""
    data, model = doubles(8), model_of()
    Recorded.seen = []
    trainer = Trainer(model, "petra", optimizer={"use": Recorded, "lr": 0.0}, backend=backend, stages=3)
    trainer.fit(data)
    expected = [exact_gradients(model_of(), data[g : g + 2]) for g in range(0, 8, 2)]
    sizes = [len(part.arena.views) for part in trainer.parts]
    starts = [sum(sizes[:s]) for s in range(3)]
    wanted = [update[at : at + size] for update in expected for at, size in zip(starts, sizes, strict=True)]
    assert len(Recorded.seen) == len(wanted)
    for gradients in wanted:
        assert any(close(gradients, seen) for seen in Recorded.seen)


def close(gradients: list[Tensor], seen: list[Tensor]) -> bool:
    pairs = zip(gradients, seen, strict=False)
    return len(gradients) == len(seen) and all(
        a.shape == b.shape and torch.allclose(a, b, rtol=0, atol=1e-13) for a, b in pairs
    )


def test_running_statistics_move_once_for_each_microbatch() -> None:
    data, model, reference = doubles(6), model_of(), model_of()
    Trainer(model, "petra", optimizer={"use": "sgd", "lr": 0.0}, backend="serial", stages=3).fit(data)
    for x, _ in data:
        reference(x)
    for (name, found), expected in zip(model.named_buffers(), reference.buffers(), strict=True):
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-13, msg=name)


def test_an_inverted_stage_keeps_nothing() -> None:
    kept: list[int] = []

    def watch(stream: int, action: Action) -> None:
        if action.op is Op.B:
            parts = [part for part in trainer.parts[:-1] if isinstance(part, Stage)]
            slots = [slot for part in parts for slot in part._slots]
            kept.append(sum(len(slot.inputs) + len(slot.outputs) for slot in slots))

    trainer = Trainer(model_of(), "petra", backend="serial", stages=3, hook=watch)
    trainer.fit(doubles(8))
    assert kept == [0] * 24


@pytest.mark.parametrize("backend", ["serial", "threads"])
def test_petra_trains(backend: str) -> None:
    torch.manual_seed(3)
    model = reversible()
    data = batches(4, size=16) * 20
    losses = (
        Trainer(model, "petra", optimizer={"use": "sgd", "lr": 0.05, "momentum": 0.5}, backend=backend).fit(data).losses
    )
    assert sum(losses[-8:]) < 0.5 * sum(losses[:8])


def test_a_stage_that_is_not_reversible_is_named_with_its_module() -> None:
    model = nn.Sequential(nn.Sequential(nn.Flatten(), nn.Linear(64, 10)), nn.Linear(10, 10), nn.Linear(10, 10))
    with pytest.raises(
        UsageError, match=r"(?s)stage 0 is not reversible: module 0.0 \(Flatten\) has no.*Coupling.*digits-revnet"
    ):
        Trainer(model, "petra", backend="serial", stages=3).fit(batches(4))


def test_random_numbers_cannot_be_inverted() -> None:
    branches = (nn.Sequential(nn.Linear(8, 8), nn.Dropout(0.5)) for _ in range(4))
    model = nn.Sequential(
        Coupling(next(branches), next(branches)), Coupling(next(branches), next(branches)), nn.Linear(16, 10)
    )
    data = [(x.flatten(1)[:, :16], target) for x, target in batches(4)]
    with pytest.raises(UsageError, match=r"stage 0 draws random numbers \(aten.bernoulli"):
        Trainer(model, "petra", backend="serial", stages=3).fit(data)


def test_the_last_stage_gets_no_output_back() -> None:
    with pytest.raises(UsageError, match="stage 2 gets no output back"):
        Trainer(model_of(), load("petra", ["recompute.stages=0..last"]), backend="serial", stages=3).fit(doubles(2))

"""Every way to die: the first failure stops all threads, joins them, and says where it was."""

from __future__ import annotations

import _thread
import threading
import time
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from asyncpipe import Trainer
from asyncpipe.errors import NumericalError, UsageError, UserCodeError
from asyncpipe.ir import Action, Op
from asyncpipe.runtime.learning_rate import LearningRate
from asyncpipe.runtime.replicas import ReplicaGroup
from asyncpipe.runtime.stage import Stage
from asyncpipe.schedule import load
from tests.networks import batches, built

BACKENDS = ["serial", "threads"]


class Fuse(nn.Module):
    """Passes its input on until its turn comes: raises in the forward or in the backward."""

    def __init__(self, after: int, backward: bool) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(1))
        self.calls = [0]
        self.after = after
        self.backward = backward

    def __deepcopy__(self, memo: dict[int, Any]) -> Fuse:
        twin = Fuse(self.after, self.backward)
        twin.calls = self.calls
        return twin

    def forward(self, x: Tensor) -> Tensor:
        y = x * self.weight
        self.calls[0] += 1
        if self.calls[0] > self.after:
            if not self.backward:
                raise ValueError("blown in forward")
            y.register_hook(self.blow)
        return y

    def blow(self, gradient: Tensor) -> None:
        raise ValueError("blown in backward")


def with_fuse(after: int, backward: bool) -> nn.Sequential:
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 16), Fuse(after, backward), nn.Linear(16, 10))


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize(("backward", "stream"), [(False, "forward"), (True, r"backward\[\d\]")])
def test_an_error_in_the_model_names_stream_action_and_stage(backend: str, backward: bool, stream: str) -> None:
    trainer = Trainer(with_fuse(10, backward), "async-lu", backend=backend, stages=3)
    op = "backward" if backward else "forward"
    expected = rf"^stream {stream}, action 1[FB]\d+ \({op} of stage 1\): ValueError: blown in {op}$"
    with pytest.raises(UserCodeError, match=expected) as caught:
        trainer.fit(batches(30))
    assert isinstance(caught.value.__cause__, ValueError)
    assert threading.active_count() == 1


@pytest.mark.parametrize("backend", BACKENDS)
def test_training_goes_on_after_a_failure(backend: str) -> None:
    model = with_fuse(10, False)
    trainer = Trainer(model, "async-lu", backend=backend, stages=3, optimizer={"use": "sgd", "lr": 1e-3})
    with pytest.raises(UserCodeError):
        trainer.fit(batches(30))
    for stage in trainer.parts:
        assert isinstance(stage, Stage)
        for slot in stage._slots:
            for module in slot.module.modules():
                if isinstance(module, Fuse):
                    module.after = 10**9
    assert trainer.fit(batches(8)).microbatches == 8


@pytest.mark.parametrize("backend", BACKENDS)
def test_updates_before_a_failure_count(backend: str) -> None:
    """They are in the weights: the learning rate of the next run begins behind them."""
    data = batches(20)
    data[7] = (data[7][0], data[7][1] + 1000)
    rates: list[float] = []

    class Rate(LearningRate):
        def at(self, update: int) -> float:
            rates.append(super().at(update))
            return rates[-1]

    trainer = Trainer(built("mlp"), "sgd", backend=backend, stages=1, learning_rate=Rate(0.1, t_max=40))
    with pytest.raises(UserCodeError):
        trainer.fit(data)
    assert (trainer.updates, trainer.microbatches) == (7, 7)
    trainer.fit(data[:7])
    assert (trainer.updates, trainer.microbatches) == (14, 14)
    assert rates == [LearningRate(0.1, t_max=40).at(update) for update in range(14)]


@pytest.mark.parametrize("name", ["lapsgd", "layup"])
def test_replicas_forget_a_meeting_that_a_failure_broke_off(name: str) -> None:
    """Snapshots of a mean that had begun, and weights under way, are not those of the next run. `hook` sees the end."""

    def fail(stream: int, action: Action) -> None:
        if action.op is Op.SYNC and action.index == 3:
            raise ValueError("enough")

    sync = {"lapsgd": ["replicas.sync.average={every: 2, blocking: false}", "costs={SYNC: 1}", "phases="], "layup": []}
    overrides = ["replicas.count=2", "costs={SYNC: 2}", *sync[name]]
    trainer = Trainer(built("mlp"), load(name, overrides), backend="serial", stages=3, hook=fail)
    with pytest.raises(UserCodeError, match="enough"):
        trainer.fit(batches(40))
    trainer.hook = None
    trainer.fit(batches(40))
    for part, other in zip(*(replica.weights for replica in trainer.replicas), strict=True):
        assert all(map(torch.equal, part.live.views, other.live.views))
    shares = getattr(trainer.synchroniser, "shares", [])
    assert [sum(weights) for weights in shares] == [2] * len(shares)


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_loss_that_is_not_finite_stops_the_run(backend: str) -> None:
    data = batches(12)
    data[5] = (data[5][0] * float("nan"), data[5][1])
    with pytest.raises(NumericalError, match=r"action 2F5 \(forward of stage 2\): the loss of microbatch 5 is nan"):
        Trainer(built("mlp"), "async-lu", backend=backend, stages=3).fit(data)


@pytest.mark.parametrize("backend", BACKENDS)
def test_data_that_ends_early_is_an_error(backend: str) -> None:
    with pytest.raises(UsageError, match="the data ended after 4 batches; the run needs 10"):
        Trainer(built("mlp"), "hogwild", backend=backend).fit(batches(4), 10)


@pytest.mark.parametrize("backend", BACKENDS)
def test_data_that_raises_is_the_users(backend: str) -> None:
    def broken() -> Any:
        yield from batches(3)
        raise OSError("disk is gone")

    with pytest.raises(UserCodeError, match="the data raised at batch 3: OSError: disk is gone"):
        Trainer(built("mlp"), "async-lu", backend=backend).fit(broken(), 10)


def test_an_interrupt_joins_every_thread() -> None:
    class Stop(KeyboardInterrupt):
        pass

    def interrupt(group: ReplicaGroup) -> None:
        raise Stop

    trainer = Trainer(built("mlp"), "async-lu", backend="threads")
    with pytest.raises(Stop):
        trainer.fit((batches(1)[0] for _ in range(10**6)), 10**6, interrupt)
    assert threading.active_count() == 1


def test_a_value_that_is_no_tensor_between_stages_is_named() -> None:
    class Dictionary(nn.Module):
        def forward(self, x: Tensor) -> dict[str, Tensor]:
            return {"x": x}

    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 10), Dictionary())

    def loss(output: dict[str, Tensor], target: Tensor) -> Tensor:
        return cross_entropy(output["x"], target)

    Trainer(model, "sgd", loss, backend="serial", stages=1).fit(batches(2))
    deeper = nn.Sequential(nn.Flatten(), nn.Linear(64, 16), Dictionary(), nn.Linear(16, 10))
    with pytest.raises(UserCodeError, match="raised"):
        Trainer(deeper, "sgd", backend="serial").fit(batches(2))


@pytest.mark.parametrize(
    ("loss", "found"),
    [
        (partial(cross_entropy, reduction="none"), r"a tensor of shape \(6,\)"),
        (lambda output, target: output.detach().sum().item(), r"-?[0-9.e-]+"),
    ],
)
def test_a_loss_that_is_no_scalar_is_an_error(loss: Any, found: str) -> None:
    trainer = Trainer(built("mlp"), "sgd", loss, backend="serial", stages=1)
    expected = rf"expected a scalar loss, found {found}\n  help: reduce it, as in loss\.mean\(\)"
    with pytest.raises(UsageError, match=rf"0F0 \(forward of stage 0\): {expected}"):
        trainer.fit(batches(1))
    with pytest.raises(UsageError, match=expected):
        trainer.evaluate(batches(1))


@pytest.mark.parametrize("schedule", ["sgd", "async-lu"])
def test_after_a_real_interrupt_nothing_trains_any_more(schedule: str) -> None:
    """Python 3.11 takes a thread for ended when an interrupt hits its join: it must not go on behind our back."""
    seen = [0]

    def interrupt(stream: int, action: Action) -> None:
        seen[0] += 1
        if seen[0] == 40:
            _thread.interrupt_main()

    model = built("mlp")
    trainer = Trainer(model, schedule, backend="threads", stages=2, hook=interrupt)
    with pytest.raises(KeyboardInterrupt):
        trainer.fit((batches(1)[0] for _ in range(10**6)), 10**6)
    ran = seen[0]
    time.sleep(0.1)
    assert seen[0] == ran
    assert threading.active_count() == 1

"""DDP, local SGD, DiLoCo, and LAPSGD's mean in place, against loops over copies of the parameters."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from asyncpipe import Trainer
from asyncpipe.schedule import load
from tests.semantics.plain import MOMENTUM, Batch, assert_near, assert_same, batches, copied, network, reduced, trained

SGD: Callable[[Any], torch.optim.Optimizer] = lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9)  # noqa: E731


class Copy:
    """One replica: parameters and an optimizer of its own, and its share of the batches, dealt in turn."""

    def __init__(self, model: nn.Sequential, data: list[Batch], number: int, replicas: int, make: Any = SGD) -> None:
        self.model = network(sum(isinstance(layer, nn.Linear) for layer in model), next(model.parameters()).dtype)
        self.parameters = list(self.model.parameters())
        self.optimizer = make(self.parameters)
        self.data = data[number::replicas][: len(data) // replicas]

    def gradient(self, first: int, size: int = 1) -> list[Tensor]:
        batches = self.data[first : first + size]
        losses = [cross_entropy(self.model(x), y) for x, y in batches]
        return reduced([list(torch.autograd.grad(loss, self.parameters)) for loss in losses])

    def step(self, gradient: Sequence[Tensor]) -> None:
        for parameter, value in zip(self.parameters, gradient, strict=True):
            parameter.grad = value.clone()
        self.optimizer.step()

    def set(self, values: Sequence[Tensor]) -> None:
        for parameter, value in zip(self.parameters, values, strict=True):
            parameter.data.copy_(value)


def copies(model: nn.Sequential, data: list[Batch], replicas: int, make: Any = SGD) -> list[Copy]:
    return [Copy(model, data, number, replicas, make) for number in range(replicas)]


def mean(values: Sequence[Sequence[Tensor]]) -> list[Tensor]:
    """Added in the order of the replicas, then divided."""
    return reduced([copied(value) for value in values])


@pytest.mark.parametrize("replicas", [1, 2, 4])
@pytest.mark.parametrize("every", [1, 2, 3])
def test_ddp_is_sgd_on_the_mean_gradient(replicas: int, every: int) -> None:
    """Of five microbatches each, so that the last update is a short one."""
    model, data = network(2), batches(5 * replicas + replicas // 2)
    workers = copies(model, data, replicas)
    for first in range(0, 5, every):
        together = mean([worker.gradient(first, every) for worker in workers])
        for worker in workers:
            worker.step(together)
    trained(model, load("ddp", [f"replicas.count={replicas}", f"update.every={every}"]), data)
    assert_same(model, [workers[0].parameters])


def test_ddp_is_sgd_on_the_batches_joined() -> None:
    """In double precision: one mean over twelve rows rounds otherwise than a mean of four means."""
    model, data = network(2, torch.float64), batches(20, torch.float64)
    joined = [tuple(map(torch.cat, zip(*data[first : first + 4], strict=True))) for first in range(0, 20, 4)]
    (alone,) = copies(model, [(x, y) for x, y in joined], 1)
    for m in range(5):
        alone.step(alone.gradient(m))
    trained(model, "ddp", data)
    assert_near(model, [alone.parameters])


def test_replicas_with_a_delay_apply_the_mean_of_old_gradients() -> None:
    """Async LU in one stage with a stash: every replica two updates late."""
    model, data = network(1), batches(20)
    workers, waiting = copies(model, data, 2), []
    for m in range(10):
        waiting.append(mean([worker.gradient(m) for worker in workers]))
        for worker in workers if m >= 2 else []:
            worker.step(waiting[m - 2])
    for worker in workers:
        worker.step(waiting[-2])
        worker.step(waiting[-1])
    replicas = "replicas={count: 2, sync: {allreduce: grad}}"
    trained(model, load("async-lu", ["weights.backward=same", replicas]), data)
    assert_same(model, [workers[0].parameters])


@pytest.mark.parametrize("every", [1, 2])
def test_local_sgd_averages_parameters_and_leaves_momentum_alone(every: int) -> None:
    model, data = network(2), batches(15)
    workers = copies(model, data, 3)
    for m in range(5):
        for worker in workers:
            worker.step(worker.gradient(m))
        if (m + 1) % every == 0:
            average = mean([worker.parameters for worker in workers])
            for worker in workers:
                worker.set(average)
    trained(model, load("local-sgd", ["replicas.count=3", f"replicas.sync.average={every}"]), data)
    assert_same(model, [mean([worker.parameters for worker in workers])])


@pytest.mark.parametrize("nesterov", [True, False])
def test_diloco_steps_along_the_mean_change_of_a_round(nesterov: bool) -> None:
    """Inner AdamW keeps its state over rounds; the outer optimizer is torch's own SGD."""
    model, data = network(2), batches(12)
    workers = copies(model, data, 2, lambda p: torch.optim.AdamW(p, lr=0.01))
    outer = [nn.Parameter(p.detach().clone()) for p in model.parameters()]
    optimizer = torch.optim.SGD(outer, lr=0.7, momentum=0.9, nesterov=nesterov)
    for m in range(6):
        for worker in workers:
            worker.step(worker.gradient(m))
        if m % 2:
            average = mean([worker.parameters for worker in workers])
            for parameter, value in zip(outer, average, strict=True):
                parameter.grad = parameter.detach() - value
            optimizer.step()
            for worker in workers:
                worker.set(outer)
    sync = f"replicas.sync.outer={{every: 2, lr: 0.7, momentum: 0.9, nesterov: {str(nesterov).lower()}}}"
    trained(model, load("diloco", ["replicas.count=2", sync]), data, {"use": "adamw", "lr": 0.01})
    assert_same(model, [outer])


def test_lapsgd_adds_the_mean_minus_its_snapshot_to_what_was_learned_meanwhile() -> None:
    """SYNC takes 4, a step 3: it begins after update 1, ends between the forward and the update of microbatch 3."""
    model, data = network(1), batches(16)
    workers = copies(model, data, 2)
    changes: list[list[Tensor]] = []
    for m in range(8):
        gradients = [worker.gradient(m) for worker in workers]
        if m >= 3 and m % 2:
            for worker, change in zip(workers, changes, strict=True):
                worker.set([p.detach() + c for p, c in zip(worker.parameters, change, strict=True)])
        for worker, gradient in zip(workers, gradients, strict=True):
            worker.step(gradient)
        if m % 2:
            average = mean([worker.parameters for worker in workers])
            changes = [[a - p.detach() for a, p in zip(average, worker.parameters, strict=True)] for worker in workers]
    for worker, change in zip(workers, changes, strict=True):
        worker.set([p.detach() + c for p, c in zip(worker.parameters, change, strict=True)])
    overrides = ["streams.worker.count=1", "update.owner=shared", "weights.backward=same", "costs={SYNC: 4}", "phases="]
    sync = "replicas.sync.average={every: 2, blocking: false}"
    trained(model, load("lapsgd", [*overrides, sync]), data)
    assert_same(model, [mean([worker.parameters for worker in workers])])


def test_lapsgd_workers_share_parameters_within_a_replica_and_a_mean_across() -> None:
    """Two replicas of two workers, each worker with momentum of its own; a mean after every second round."""
    model, data = network(2), batches(32)
    workers = copies(model, data, 2)
    states = [[SGD(worker.parameters) for _ in range(2)] for worker in workers]
    for first in range(0, 16, 2):
        for worker, optimizers in zip(workers, states, strict=True):
            gradients = [worker.gradient(first + k) for k in range(2)]
            for worker.optimizer, gradient in zip(optimizers, gradients, strict=True):
                worker.step(gradient)
        if first % 4:
            average = mean([worker.parameters for worker in workers])
            for worker in workers:
                pairs = zip(worker.parameters, average, strict=True)
                worker.set([p.detach() + (value - p.detach()) for p, value in pairs])
    trained(model, load("lapsgd", ["streams.worker.count=2", "replicas.sync.average.every=4", "phases="]), data)
    assert_same(model, [mean([worker.parameters for worker in workers])])


class SlowStep(torch.optim.Optimizer):
    """Takes 1 from every weight, and a while between its read and its write."""

    def __init__(self, parameters: Any, lr: float) -> None:
        super().__init__(parameters, {"lr": lr})

    def step(self, closure: Any = None) -> Any:
        for group in self.param_groups:
            for parameter in group["params"]:
                found = parameter.data - 1
                time.sleep(0.002)
                parameter.data.copy_(found)


@pytest.mark.parametrize("write", ["ordered", "atomic"])
def test_no_update_on_threads_is_lost_to_a_mean_that_comes_in_meanwhile(write: str) -> None:
    """All replicas step alike, so that the means change nothing but what they overwrite."""
    model = nn.Sequential(nn.Linear(5, 4, dtype=torch.float64))
    for parameter in model.parameters():
        nn.init.zeros_(parameter)
    overrides = ["streams.worker.count=1", "update.owner=shared", f"update.write={write}", "phases="]
    schedule = load("lapsgd", [*overrides, "replicas.sync.average.every=1"])
    optimizer = {"use": SlowStep, "lr": 1.0}
    # A thread for each stream, whatever the machine has.
    hook: Any = lambda stream, action: None  # noqa: E731
    Trainer(model, schedule, optimizer=optimizer, backend="threads", stages=1, hook=hook).fit(
        batches(80, torch.float64)
    )
    assert [parameter.unique().tolist() for parameter in model.parameters()] == [[-40.0], [-40.0]]


@pytest.mark.parametrize(("name", "derived"), [("spectrain", "ahead"), ("pipemare", "corrected")])
def test_after_a_drain_nothing_is_left_of_the_weights_before_the_mean(name: str, derived: str) -> None:
    """Three updates each after the last mean: the next forward or backward must not read one replica's own."""
    sync = "replicas={count: 2, sync: {average: 5}}"
    trainer = Trainer(network(3), load(name, [sync]), optimizer=MOMENTUM, backend="serial", stages=3)
    trainer.fit(batches(26))
    for stages in zip(*(replica.weights for replica in trainer.replicas), strict=True):
        for stage in stages:
            assert torch.equal(getattr(stage, derived).views[0], stage.live.views[0])
            assert torch.equal(stage.live.views[0], stages[0].live.views[0])

"""LayUp's push-sum: what is conserved, and two replicas written out."""

from __future__ import annotations

import random
from collections import Counter
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from asyncpipe import Trainer
from asyncpipe.runtime.replicas import Push
from asyncpipe.schedule import load
from tests.semantics.plain import MOMENTUM, assert_near, batches, network, sgd, trained
from tests.semantics.test_replicas import Copy, copies


def scattered(overrides: list[str], stages: int, count: int) -> tuple[Trainer, list[Tensor]]:
    """(a trainer at rate 0 after `count` batches each from unlike replicas, their mean before)."""
    data = batches(4 * count, torch.float64)
    model = network(stages, torch.float64)
    optimizer = {"use": "sgd", "lr": 0.0}
    trainer = Trainer(model, load("layup", overrides), optimizer=optimizer, backend="serial", stages=stages)
    trainer.prepare(data[0][0])
    views = [[view for part in replica.weights for view in part.live.views] for replica in trainer.replicas]
    for replica in views:
        for view in replica:
            view.add_(torch.randn_like(view))
    mean = [torch.stack(column).mean(0) for column in zip(*views, strict=True)]
    trainer.fit(data)
    return trainer, mean


@pytest.mark.parametrize("granularity", ["stage", "model"])
@pytest.mark.parametrize("cost", [0, 3])
def test_pushes_conserve_the_weights_and_the_weighted_mean(granularity: str, cost: int) -> None:
    """Also of what is under way; the replicas end with that mean, since nothing was learned."""
    trainer, mean = scattered([f"replicas.sync.push.granularity={granularity}", f"costs={{SYNC: {cost}}}"], 2, 6)
    assert_near(trainer.model, [mean])  # type: ignore[arg-type]
    shares: Any = getattr(trainer.synchroniser, "shares")  # noqa: B009
    assert all(min(share) > 0 and sum(share) == 4 for share in shares)
    assert any(share != [1.0] * 4 for share in shares)


@pytest.mark.parametrize("granularity", ["stage", "model"])
def test_no_share_is_lost_where_pushes_meet_on_threads(granularity: str) -> None:
    model, data = network(1), batches(2000)
    overrides = ["replicas.count=4", f"replicas.sync.push.granularity={granularity}"]
    optimizer = {"use": "sgd", "lr": 0.0}
    # A thread for each stream, whatever the machine has.
    hook: Any = lambda stream, action: None  # noqa: E731
    trainer = Trainer(model, load("layup", overrides), optimizer=optimizer, backend="threads", stages=1, hook=hook)
    trainer.fit(data)
    shares: Any = getattr(trainer.synchroniser, "shares")  # noqa: B009
    assert sum(shares[0]) == pytest.approx(4)


def mixed(receiver: Copy, sent: list[Tensor], weights: list[float], number: int, incoming: float) -> None:
    """x <- (w x + w' x') / (w + w'), w <- w + w'."""
    total = weights[number] + incoming
    pairs = zip(receiver.parameters, sent, strict=True)
    receiver.set([(weights[number] * p.detach() + incoming * value) / total for p, value in pairs])
    weights[number] = total


def test_two_replicas_exchange_halves_of_their_weight_while_they_compute() -> None:
    """A push takes 1: what was sent after an update arrives after the next forward has read, replica 0's first."""
    model, data = network(1, torch.float64), batches(16, torch.float64)
    workers, weights = copies(model, data, 2), [1.0, 1.0]
    under_way: list[tuple[list[Tensor], float]] = []
    for m in range(8):
        gradients = [worker.gradient(m) for worker in workers]
        for number, (sent, incoming) in enumerate(under_way):
            mixed(workers[1 - number], sent, weights, 1 - number, incoming)
        for worker, gradient in zip(workers, gradients, strict=True):
            worker.step(gradient)
        weights = [weight / 2 for weight in weights]
        under_way = [
            ([p.detach().clone() for p in worker.parameters], weight)
            for worker, weight in zip(workers, weights, strict=True)
        ]
    for number, (sent, incoming) in enumerate(under_way):
        mixed(workers[1 - number], sent, weights, 1 - number, incoming)
    pairs = zip(*(worker.parameters for worker in workers), strict=True)
    expected = [(weights[0] * a.detach() + weights[1] * b.detach()) / 2 for a, b in pairs]
    trained(model, load("layup", ["replicas.count=2", "costs={SYNC: 1}"]), data)
    assert_near(model, [expected])


class Peers:
    """Four replicas of two stages in step, which take turns where they act in the same instant."""

    def __init__(self, workers: list[Copy], seed: int) -> None:
        self.workers, self.seed = workers, seed
        self.parts = [[worker.parameters[:2], worker.parameters[2:]] for worker in workers]
        self.steps = [[sgd()(k, part) for k, part in enumerate(parts)] for parts in self.parts]
        self.weights = [[1.0] * 4, [1.0] * 4]

    def draw(self, sender: int, part: int | str, update: int) -> int:
        """In the first run."""
        chance = random.Random(f"{self.seed} 1 {sender} {part} {update}")
        return [number for number in range(4) if number != sender][chance.randrange(3)]

    def send(self, k: int, sender: int, receiver: int) -> None:
        weights = self.weights[k]
        weights[sender] /= 2
        total = weights[receiver] + weights[sender]
        for own, sent in zip(self.parts[receiver][k], self.parts[sender][k], strict=True):
            own.data = (weights[receiver] * own.data + weights[sender] * sent.data) / total
        weights[receiver] = total

    def train(self, m: int, granularity: str) -> None:
        """`stage`: each stage goes out when it is updated; `model`: all of them, when the first one is."""
        gradients = [worker.gradient(m) for worker in self.workers]
        for k in (1, 0):
            for number, gradient in enumerate(gradients):
                self.steps[number][k](gradient[2 * k : 2 * k + 2])
                if granularity == "stage":
                    self.send(k, number, self.draw(number, k, m))
                elif k == 0:
                    peer = self.draw(number, "model", m)
                    self.send(1, number, peer)
                    self.send(0, number, peer)

    def mean(self) -> list[Tensor]:
        """By the weights, which add up to four."""
        columns = zip(*(worker.parameters for worker in self.workers), strict=True)
        return [
            torch.stack([w * p.detach() for w, p in zip(self.weights[i // 2], column, strict=True)]).sum(0) / 4
            for i, column in enumerate(columns)
        ]


@pytest.mark.parametrize("granularity", ["stage", "model"])
def test_four_replicas_push_to_peers_that_the_seed_draws(granularity: str) -> None:
    model, data = network(2, torch.float64), batches(24, torch.float64)
    peers = Peers(copies(model, data, 4), seed=7)
    for m in range(6):
        peers.train(m, granularity)
    torch.manual_seed(7)
    trained(model, load("layup", [f"replicas.sync.push.granularity={granularity}"]), data, MOMENTUM)
    assert_near(model, [peers.mean()])


def test_peers_are_others_with_equal_chances() -> None:
    push = Push(replicas=4, stages=1, whole_model=False, seed=0)
    drawn = Counter(push._peer(2, 0, update) for update in range(3000))
    assert sorted(drawn) == [0, 1, 3]
    assert all(abs(count - 1000) < 100 for count in drawn.values())


def test_where_two_replicas_take_turns_the_mean_moves_a_third_further_than_either_steps() -> None:
    """A weight of 4/3 before each update, 2/3 after its push; every gradient is 1, and so is the learning rate."""
    ends = []
    for count in (30, 31):
        model = nn.Linear(1, 1, bias=False).double()
        nn.init.zeros_(model.weight)
        one = torch.ones(1, 1, dtype=torch.float64)
        options = {"use": "sgd", "lr": 1.0}
        schedule = load("layup", ["replicas.count=2"])
        trainer = Trainer(model, schedule, lambda y, target: y.sum(), options, backend="serial", stages=1)
        trainer.fit([(one, one)] * (2 * count))
        ends.append(model.weight.item())
    assert ends[1] - ends[0] == pytest.approx(-4 / 3)


@pytest.mark.parametrize("whole_model", [False, True])
def test_peers_do_not_depend_on_the_order_in_which_pushes_end(whole_model: bool) -> None:
    pushes = [(replica, stage, update) for replica in range(4) for stage in range(2) for update in range(20)]
    found = []
    for order in (pushes, pushes[::-1]):
        push = Push(replicas=4, stages=2, whole_model=whole_model, seed=0)
        drawn = {place: push._peer(*place) for place in order}
        push.restart()
        later = {place: push._peer(*place) for place in order}
        assert later != drawn
        found.append((drawn, later))
    assert found[0] == found[1]
    drawn, _ = found[0]
    assert all(drawn[r, 0, u] == drawn[r, 1, u] for r in range(4) for u in range(20)) == whole_model

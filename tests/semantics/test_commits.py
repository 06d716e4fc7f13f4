"""ACCO: tentative updates estimate, committed ones take the gradients of both halves from the last committed state."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch

from asyncpipe.schedule import load
from tests.semantics.plain import assert_same, batches, network, reduced, trained
from tests.semantics.test_replicas import SGD, copies, mean

ADAM: Any = lambda p: torch.optim.Adam(p, lr=0.01)  # noqa: E731


@pytest.mark.parametrize(
    ("make", "options"),
    [(SGD, {"use": "sgd", "lr": 0.1, "momentum": 0.9}), (ADAM, {"use": "adam", "lr": 0.01})],
    ids=["momentum", "adam"],
)
@pytest.mark.parametrize(("replicas", "stages", "count"), [(1, 3, 10), (2, 2, 10), (2, 1, 9)])
def test_acco_estimates_with_one_half_and_commits_both(
    make: Any, options: dict[str, Any], replicas: int, stages: int, count: int
) -> None:
    """The first half of a round computes at the estimate of the round before, the second at its committed weights."""
    model, data = network(stages), batches(count * replicas)
    workers = copies(model, data, replicas, make)
    true = [p.detach().clone() for p in model.parameters()]
    state = copy.deepcopy(workers[0].optimizer.state_dict())
    estimate, halves = true, []
    for m in range(count):
        for worker in workers:
            worker.set(true if m % 2 else estimate)
        halves.append(mean([worker.gradient(m) for worker in workers]))
        workers[0].set(true)
        workers[0].optimizer.load_state_dict(copy.deepcopy(state))
        workers[0].step(reduced(halves))
        if m % 2:
            true = [p.detach().clone() for p in workers[0].parameters]
            state, halves = copy.deepcopy(workers[0].optimizer.state_dict()), []
        else:
            estimate = [p.detach().clone() for p in workers[0].parameters]
    trained(model, load("acco", [f"replicas.count={replicas}"]), data, options)
    assert_same(model, [workers[0].parameters])

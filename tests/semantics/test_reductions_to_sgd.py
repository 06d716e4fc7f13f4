"""Where an algorithm must be plain SGD: behind a barrier, in one stage, and in pipelines that accumulate and flush."""

from __future__ import annotations

import json

import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy

from asyncpipe import Trainer
from asyncpipe.schedule import load
from tests.semantics.plain import MOMENTUM, Batch, assert_near, assert_same, batches, network, reduced, trained

BARRIER = "F[0, m] after U[*, g-1]"


def accumulated(model: nn.Module, data: list[Batch], every: int = 1, reduce: str = "mean") -> list[list[nn.Parameter]]:
    """SGD with momentum on `every` microbatches at a time, the last update being a short one; no stages at all."""
    parameters = list(model.parameters())
    optimizer = torch.optim.SGD(parameters, lr=0.1, momentum=0.9)
    for first in range(0, len(data), every):
        group = data[first : first + every]
        parts = [list(torch.autograd.grad(cross_entropy(model(x), y), parameters)) for x, y in group]
        for parameter, gradient in zip(parameters, reduced(parts, reduce), strict=True):
            parameter.grad = gradient
        optimizer.step()
    return [parameters]


@pytest.mark.parametrize(
    "name", ["async-lu", "async-bu", "pd-asgd", "hogwild", "lapsgd", "dc-asgd", "pipedream", "nesterov-pp", "layup"]
)
def test_a_barrier_makes_every_asynchronous_schedule_sgd(name: str) -> None:
    """Streams of all kinds then take turns; LAPSGD's processes share their momentum here, DC-ASGD corrects nothing."""
    rules = [*(str(rule) for rule in load(name).rules), BARRIER]
    alone = ["update.owner=shared"] + ([] if load(name).replicas.count == 1 else ["replicas=null", "phases="])
    schedule = load(name, [f"rules={json.dumps(rules)}", *alone, "gradient=[]"])
    model, reference, data = network(3), network(3), batches(10)
    trainer = trained(model, schedule, data)
    assert list(trainer.predicted_staleness) == [0, 0, 0]
    assert_same(model, accumulated(reference, data))


def test_one_forward_and_one_backward_stream_with_a_barrier_are_sgd() -> None:
    """Async LU, n_F = n_B = 1."""
    schedule = load("async-lu", ["streams.backward.count=1", "in_flight=1"])
    model, reference, data = network(3), network(3), batches(10)
    trained(model, schedule, data)
    assert_same(model, accumulated(reference, data))


@pytest.mark.parametrize("name", ["pipedream", "ddg", "fdg", "fdg-paper-order", "fr", "adl", "paci", "nesterov-pp"])
def test_one_stage_is_sgd(name: str) -> None:
    model, reference, data = network(1), network(1), batches(18)
    update = load(name).update
    trained(model, name, data)
    assert_same(model, accumulated(reference, data, update.every, update.reduce))


@pytest.mark.parametrize("name", ["spectrain", "pipemare", "pipelined-bp"])
def test_in_one_stage_a_correction_has_nothing_to_correct(name: str) -> None:
    model, data = network(1, torch.float64), batches(18, torch.float64)
    reference = network(1, torch.float64)
    trained(model, name, data)
    assert_near(model, accumulated(reference, data))


FLUSHED = ["gpipe", "gpipe-recompute", "1f1b", "interleaved-1f1b-greedy", "zb-h1-greedy"]
TABLES = ["interleaved-1f1b", "looped-bfs", "zb-h1", "zbv", "dualpipev"]


@pytest.mark.parametrize(
    ("name", "count", "backend"),
    [
        *((name, 20, "serial") for name in FLUSHED),
        *((name, 16, "serial") for name in TABLES),
        *((name, 16, "threads") for name in ("1f1b", "zbv")),
    ],
)
def test_a_flushed_pipeline_is_sgd_with_accumulation(name: str, count: int, backend: str) -> None:
    """Eight microbatches in an update, and four in the last where the order is no table."""
    model, reference, data = network(4), network(4), batches(count)
    Trainer(model, name, optimizer=MOMENTUM, backend=backend, stages=4, intra_op_threads=1).fit(data)
    assert_same(model, accumulated(reference, data, every=8))

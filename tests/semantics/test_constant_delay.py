"""Constant staleness d is a queue of d gradients before a plain optimizer: bit for bit, however it arises."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy

from asyncpipe.schedule import Schedule, load
from tests.semantics.plain import MOMENTUM, Batch, assert_same, batches, network, parsed, trained

OPTIMIZERS: dict[str, tuple[dict[str, Any], Callable[[Any], torch.optim.Optimizer]]] = {
    "plain": ({"use": "sgd", "lr": 0.1}, lambda p: torch.optim.SGD(p, lr=0.1)),
    "momentum": (dict(MOMENTUM), lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9)),
    "adam": ({"use": "adam", "lr": 0.01}, lambda p: torch.optim.Adam(p, lr=0.01)),
}
FIXED_ORDER = "streams: {{main: {{runs: [F, B, U], body: ['F[0, m]', 'B[0, m-{0}]', 'U[0, m-{0}]']}}}}\n"
LAG = """
devices: S
streams: {{compute: {{runs: [F, B, U], per: device}}}}
in_flight: S - s + {every} * {delay}
update: {{every: {every}}}
weights: {{forward: lag({delay}), backward: same}}
"""


def delayed(
    model: nn.Module,
    data: list[Batch],
    delay: int,
    every: int = 1,
    make: Callable[[Any], torch.optim.Optimizer] = OPTIMIZERS["momentum"][1],
) -> list[list[nn.Parameter]]:
    """Updates wait in a queue until `delay` younger ones are behind them; in the end it is emptied."""
    parameters = list(model.parameters())
    optimizer, queue = make(parameters), deque[list[torch.Tensor]]()

    def apply_oldest() -> None:
        for parameter, gradient in zip(parameters, queue.popleft(), strict=True):
            parameter.grad = gradient
        optimizer.step()

    for first in range(0, len(data), every):
        group = data[first : first + every]
        found = [torch.autograd.grad(cross_entropy(model(x), y), parameters) for x, y in group]
        sums = [sum(column[1:], start=column[0]) for column in zip(*found, strict=True)]
        queue.append([total / len(group) if len(group) > 1 else total for total in sums])
        if len(queue) > delay:
            apply_oldest()
    while queue:
        apply_oldest()
    return [parameters]


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("delay", [0, 1, 2, 3])
def test_a_stage_with_a_stash_is_sgd_on_gradients_of_constant_age(delay: int, optimizer: str) -> None:
    options, make = OPTIMIZERS[optimizer]
    schedule = parsed(FIXED_ORDER.format(delay) + "weights: {backward: same}")
    model, reference, data = network(1), network(1), batches(9)
    trainer = trained(model, schedule, data, options)
    assert list(trainer.predicted_staleness) == [delay]
    assert_same(model, delayed(reference, data, delay, make=make))


@pytest.mark.parametrize(("delay", "every"), [(1, 1), (2, 1), (3, 1), (1, 3), (2, 2)])
def test_lagging_weights_delay_all_stages_alike(delay: int, every: int) -> None:
    """W(t+1) = W(t) - lr * gradient(W(t-n)) for the whole model, the last update being a short one."""
    schedule = parsed(LAG.format(delay=delay, every=every))
    model, reference, data = network(3), network(3), batches(11)
    trainer = trained(model, schedule, data)
    assert list(trainer.predicted_staleness) == [delay] * 3
    assert_same(model, delayed(reference, data, delay, every))


@pytest.mark.parametrize("optimizer", ["momentum", "adam"])
def test_pipedream_2bw_is_sgd_delayed_by_one_update(optimizer: str) -> None:
    options, make = OPTIMIZERS[optimizer]
    model, reference, data = network(3), network(3), batches(36)
    trained(model, "pipedream-2bw", data, options)
    assert_same(model, delayed(reference, data, 1, every=8, make=make))


@pytest.mark.parametrize(("name", "stages"), [("async-lu", 1), ("async-bu", 1), ("async-bu", 3), ("async-bu", 4)])
def test_block_updates_with_a_stash_are_sgd_delayed_by_two_updates(name: str, stages: int) -> None:
    """Layer-wise updates have that delay in one stage only."""
    model, reference, data = network(stages), network(stages), batches(12)
    trained(model, load(name, ["weights.backward=same"]), data)
    assert_same(model, delayed(reference, data, 2))


def with_in_flight(count: int) -> Schedule:
    text = f"streams: {{forward: {{runs: [F]}}, backward: {{runs: [B, U]}}}}\nin_flight: {count}\n"
    return parsed(text + "weights: {backward: same}\ncosts: {F: 1, B: 4}")


@pytest.mark.parametrize("in_flight", [2, 3, 4])
def test_the_limit_of_microbatches_in_flight_sets_the_age(in_flight: int) -> None:
    """A fast forward stream is always as far ahead as it may be."""
    model, reference, data = network(1), network(1), batches(10)
    trained(model, with_in_flight(in_flight), data)
    assert_same(model, delayed(reference, data, in_flight - 1))

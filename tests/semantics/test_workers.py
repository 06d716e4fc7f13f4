"""Hogwild!, PASSM+, LAPSGD and LPPSGD inside one replica: who writes what, and Async LU beside Async BU."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from asyncpipe import Trainer
from asyncpipe.compiler import compile_schedule
from asyncpipe.ir import Action, Event, Op, replay
from asyncpipe.schedule import Schedule, load
from tests.semantics.plain import (
    MOMENTUM,
    Versions,
    assert_same,
    batches,
    copied,
    network,
    parsed,
    sgd,
    trained,
    whole_gradients,
)

WORKERS = "streams: {{worker: {{runs: [F, B, U], count: {0}}}}}\nrules: ['U[s, g] after B[0, hi]']\n"


@pytest.mark.parametrize(
    ("workers", "owner"), [(1, "shared"), (2, "shared"), (4, "shared"), (2, "stream"), (4, "stream")]
)
def test_hogwild_workers_read_together_and_write_in_turn(workers: int, owner: str) -> None:
    """In virtual time equal workers stay abreast: as many gradients at the same weights, each applied once."""
    model, data = network(3), batches(12)
    live = Versions(model, sgd()).live
    states = [[sgd()(k, stage) for k, stage in enumerate(live)] for _ in range(workers if owner == "stream" else 1)]
    for first in range(0, len(data), workers):
        pulled = [copied(stage) for stage in live]
        for worker, (x, y) in enumerate(data[first : first + workers]):
            for k, gradient in enumerate(whole_gradients(pulled, x, y)):
                states[worker % len(states)][k](gradient)
    schedule = parsed(WORKERS.format(workers) + f"update: {{write: racy, owner: {owner}}}")
    trained(model, schedule, data)
    assert_same(model, live)


class Witness(torch.autograd.Function):
    """The identity; its backward notes the place and, by the number of rows, the microbatch."""

    reached: set[tuple[str, int]]

    @staticmethod
    def forward(ctx: Any, x: Tensor, place: str) -> Tensor:
        ctx.place = place
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        Witness.reached.add((ctx.place, len(gradients[0]) - 1))
        return gradients[0], None


class Watched(nn.Module):
    def __init__(self, place: str) -> None:
        super().__init__()
        self.place = place

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = Witness.apply(x, self.place)
        return result


def watched(stages: int) -> nn.Sequential:
    plain = [layer for layer in network(stages) if isinstance(layer, nn.Linear)]
    parts = ((Watched(f"input of {k}"), layer, Watched(f"output of {k}")) for k, layer in enumerate(plain))
    return nn.Sequential(*(nn.Sequential(*part) for part in parts))


def owned(stage: int, stages: int, workers: int) -> int:
    """Whose block a stage is in: blocks of equally many stages, the first worker's at the input."""
    return stage * workers // stages


@pytest.mark.parametrize(("stages", "workers"), [(4, 2), (3, 3), (5, 2)])
@pytest.mark.parametrize("scope", ["partition", "alternate"])
def test_back_propagation_ends_at_the_lowest_stage_of_the_block(scope: str, stages: int, workers: int) -> None:
    """`alternate`: the first microbatch of each worker is whole, the next partial, and so on."""
    Witness.reached = set()
    schedule = parsed(
        WORKERS.format(workers) + f"in_flight: {workers + 1}\nupdate: {{write: racy, owner: stream, scope: {scope}}}"
    )
    count = 4 * workers
    data = [batches(1, rows=m + 1)[0] for m in range(count)]
    Trainer(watched(stages), schedule, optimizer=MOMENTUM, backend="serial", stages=stages).fit(data)
    lowest = [min(k for k in range(stages) if owned(k, stages, workers) == c) for c in range(workers)]
    whole = [scope == "alternate" and m // workers % 2 == 0 for m in range(count)]
    floor = [0 if whole[m] else lowest[m % workers] for m in range(count)]
    outputs = {(f"output of {k}", m) for m in range(count) for k in range(floor[m], stages)}
    assert Witness.reached == outputs | {
        (f"input of {k}", m) for m in range(count) for k in range(floor[m] + 1, stages)
    }


def changes(model: nn.Sequential, schedule: str | Schedule, count: int) -> dict[Action, set[int]]:
    """Which stages each action changed, as seen between two calls of the hook."""
    found: dict[Action, set[int]] = {}
    layers = [layer for layer in model if isinstance(layer, nn.Linear)]
    before = [copied(list(layer.parameters())) for layer in layers]
    running: list[Action] = []

    def look() -> None:
        for k, layer in enumerate(layers):
            if not all(map(torch.equal, layer.parameters(), before[k])):
                found.setdefault(running[-1], set()).add(k)
                before[k] = copied(list(layer.parameters()))

    def hook(stream: int, action: Action) -> None:
        look()
        running.append(action)

    trained(model, schedule, batches(count), hook=hook)
    look()
    return found


def test_a_worker_of_passm_changes_its_block_and_nothing_else() -> None:
    stages, workers, count = 4, 2, 8
    found = changes(network(stages), "passm-plus", count)
    blocks = {m: {k for k in range(stages) if owned(k, stages, workers) == m % workers} for m in range(count)}
    assert found == {Action(k, Op.U, m): {k} for m in range(count) for k in blocks[m]}


def test_lppsgd_updates_everything_and_its_block_by_turns() -> None:
    stages, workers, count = 4, 4, 16
    schedule = load("lppsgd", ["replicas.count=1", "phases="])
    found = changes(network(stages), schedule, count)
    every = [m // workers % 2 == 0 for m in range(count)]
    updated = {Action(k, Op.U, m) for m in range(count) for k in range(stages) if every[m] or k == m % workers}
    assert found == {action: {action.stage} for action in updated}


def test_lppsgd_with_one_worker_is_lapsgd() -> None:
    """Its block is the whole model, as in the authors' code."""
    models = []
    for name in ("lapsgd", "lppsgd"):
        model = network(3)
        overrides = ["streams.worker.count=1", "update.owner=shared", "replicas.sync.average.every=2", "in_flight=1"]
        trained(model, load(name, overrides), batches(12), MOMENTUM)
        models.append(model)
    assert_same(models[0], [list(models[1].parameters())])


def test_layer_wise_and_block_updates_are_one_algorithm_in_one_stage() -> None:
    models = []
    for name in ("async-lu", "async-bu"):
        model = network(1)
        trained(model, name, batches(12))
        models.append(model)
    assert_same(models[0], [list(models[1].parameters())])


def test_layer_wise_and_block_updates_differ_in_the_times_of_updates_only() -> None:
    layer_wise, block = (list(replay(compile_schedule(load(n), 4).program(20))) for n in ("async-lu", "async-bu"))

    def without_updates(events: list[Event]) -> set[Event]:
        return {event for event in events if event.action.op is not Op.U}

    def update_times(events: list[Event]) -> dict[Action, int]:
        return {event.action: event.time for event in events if event.action.op is Op.U}

    assert without_updates(layer_wise) == without_updates(block)
    sooner, later = update_times(layer_wise), update_times(block)
    assert sooner.keys() == later.keys()
    assert all((sooner[a] < later[a]) == (a.stage > 0) and sooner[a] <= later[a] for a in sooner)

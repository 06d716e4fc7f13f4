"""What asynchronous runs really do: measured staleness, every gradient once, which weights a backward reads."""

from __future__ import annotations

import random
import time
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from asyncpipe import Trainer, data, models
from asyncpipe.compiler import compile_schedule
from asyncpipe.data.batches import Batches
from asyncpipe.ir import Action, Op
from asyncpipe.runtime.replicas import ReplicaGroup
from asyncpipe.runtime.stage import Stage
from asyncpipe.schedule import Costs, Weights, library, load
from tests.compiler.properties import all_actions
from tests.networks import batches, built
from tests.training.steady import assert_measured_is_stated


class Bias(nn.Module):
    """y = x + b. The gradient of b does not depend on any weight, and integers add exactly in any order."""

    def __init__(self, features: int) -> None:
        super().__init__()
        self.b = nn.Parameter(torch.zeros(features))

    def forward(self, x: Tensor) -> Tensor:
        return x + self.b


def weighted_sum(output: Tensor, target: Tensor) -> Tensor:
    return (output * target).sum()


def integers(count: int, features: int) -> list[tuple[Tensor, Tensor]]:
    generator = torch.Generator().manual_seed(2)
    made = (torch.randint(-4, 5, (2, 3, features), generator=generator).float() for _ in range(count))
    return [(x, t) for x, t in made]


@pytest.mark.parametrize("name", library())
def test_serial_measures_the_staleness_that_the_compiler_states(name: str) -> None:
    assert_measured_is_stated(name, 4)


@pytest.mark.slow
@pytest.mark.parametrize("name", library())
def test_so_it_does_with_eight_stages(name: str) -> None:
    """Four, and in tests/semantics two and five, show the same in a third of the time."""
    assert_measured_is_stated(name, 8)


def test_async_lu_and_bu_have_the_staleness_of_the_paper() -> None:
    expected = {"async-lu": (2, 2, 2, 1, 1, 1, 0, 0), "async-bu": (2,) * 8, "sgd": (0,) * 8, "sgd-ready": (0,) * 8}
    for name, staleness in expected.items():
        costs = Costs(((Op.F, (1,)), (Op.B, (2,)), (Op.U, (0,))))  # type: ignore[arg-type]
        assert [float(v) for v in compile_schedule(load(name), 8, costs).staleness.apply] == list(staleness)


def test_serial_is_reproducible_to_the_last_bit() -> None:
    runs = []
    for _ in range(2):
        model = built("convnet")
        report = Trainer(model, "hogwild", backend="serial", stages=3).fit(batches(20))
        runs.append((report.losses, [p.clone() for p in model.parameters()]))
    assert runs[0][0] == runs[1][0]
    assert all(torch.equal(a, b) for a, b in zip(runs[0][1], runs[1][1], strict=True))


@pytest.mark.parametrize("schedule", ["async-lu", "async-bu"])
def test_a_thousand_steps_under_stress_apply_every_gradient_exactly_once(schedule: str) -> None:
    """Random sleeps shake the threads; the sum of all gradients must be in the weights, to the last bit."""
    steps, stages, features = 1000, 4, 5
    chance = random.Random(0)
    started: list[Action] = []

    def shake(stream: int, action: Action) -> None:
        started.append(action)
        if chance.random() < 0.03:
            time.sleep(chance.random() * 5e-4)

    microbatches = integers(steps, features)
    model = nn.Sequential(*(Bias(features) for _ in range(stages)))
    trainer = Trainer(model, schedule, weighted_sum, {"use": "sgd", "lr": 1.0}, "threads", stages, hook=shake)
    trainer.fit(microbatches)
    expected = -torch.stack([t.sum(0) for _, t in microbatches]).sum(0)
    for layer in model:
        assert isinstance(layer, Bias)
        assert torch.equal(layer.b, expected)
    assert len(started) == len(set(started)) == steps * stages * 3
    histogram = trainer.staleness.summary()["histogram"]
    assert [sum(counts.values()) for counts in histogram] == [steps] * stages
    x = microbatches[0][0]
    assert torch.equal(model(x), x + stages * expected)


@pytest.mark.parametrize("name", ["async-bu", "pd-asgd", "fdg", "gpipe-recompute"])
def test_threads_obey_every_edge_of_the_diagram(name: str) -> None:
    """No action starts before all that it waits for has ended."""
    chance = random.Random(1)
    ended: set[Action] = set()
    early: list[tuple[Action, Action]] = []
    compiled = compile_schedule(load(name), 3)
    count = 48

    def watch(stream: int, action: Action) -> None:
        if chance.random() < 0.1:
            time.sleep(chance.random() * 1e-3)
        early.extend((action, s) for s, _ in compiled.diagram.predecessors(action, count) if s not in ended)

    trainer = Trainer(built("mlp"), name, backend="threads", stages=3, hook=watch)
    trainer.prepare(batches(1)[0][0])
    run = trainer.run_backend

    def recording(group: ReplicaGroup, hook: object, poll: object) -> None:
        execution = group.executions[0]
        original = execution.run

        def run_and_mark(stream: int, action: Action) -> None:
            original(stream, action)
            ended.add(action)

        execution.run = run_and_mark  # type: ignore[method-assign]
        run(group, watch, None)

    trainer.run_backend = recording
    trainer.fit(batches(count))
    assert ended == set(all_actions(compiled, count))
    assert early == []


def make_stage(stash: bool) -> tuple[Stage, nn.Sequential]:
    torch.manual_seed(0)
    module = nn.Sequential(nn.Linear(6, 5), nn.Tanh(), nn.Linear(5, 4))
    return Stage(1, module, 2, stash, None), module


def test_a_stashed_backward_equals_the_gradient_at_the_weights_of_its_forward() -> None:
    stage, module = make_stage(stash=True)
    x, dy = torch.randn(3, 6), torch.randn(3, 4)
    leaf = x.clone().requires_grad_()
    expected = torch.autograd.grad(module(leaf), [leaf, *module.parameters()], dy)
    stage.forward(1, x)
    for view in stage.arena.views:
        view.add_(1.0)
    (dx,), gradients = stage.backward(1, [dy])
    assert all(torch.equal(a, b) for a, b in zip([dx, *gradients], expected, strict=True))  # type: ignore[arg-type]


def test_a_latest_backward_uses_current_weights_and_stored_activations() -> None:
    stage, module = make_stage(stash=False)
    x, dy = torch.randn(3, 6), torch.randn(3, 4)
    first, last = module[0], module[2]
    assert isinstance(first, nn.Linear)
    assert isinstance(last, nn.Linear)
    hidden = torch.tanh(first(x)).detach()
    stage.forward(0, x)
    for view in stage.arena.views:
        view.mul_(2.0)
    (dx,), (first_w, first_b, last_w, last_b) = stage.backward(0, [dy])
    inner = (dy @ last.weight) * (1 - hidden * hidden)
    assert dx is not None
    torch.testing.assert_close(dx, inner @ first.weight)
    torch.testing.assert_close(first_w, inner.T @ x)
    torch.testing.assert_close(first_b, inner.sum(0))
    torch.testing.assert_close(last_w, dy.T @ hidden)
    torch.testing.assert_close(last_b, dy.sum(0))


def test_slots_hold_different_microbatches_at_once() -> None:
    stage, module = make_stage(stash=False)
    xs, dy = [torch.randn(3, 6) for _ in range(2)], torch.randn(3, 4)
    expected = [torch.autograd.grad(module(x), list(module.parameters()), dy) for x in xs]
    for slot, x in enumerate(xs):
        stage.forward(slot, x)
    for slot in (1, 0):
        _, gradients = stage.backward(slot, [dy])
        assert all(torch.equal(a, b) for a, b in zip(gradients, expected[slot], strict=True))  # type: ignore[arg-type]


@pytest.mark.parametrize("schedule", ["async-lu", "async-bu", "hogwild"])
def test_async_training_learns_digits(schedule: str) -> None:
    digits = data.load("digits", {})
    torch.manual_seed(0)
    model = models.build("convnet", {"channels": [16, 32], "hidden": 32}, digits.sample_shape, digits.classes)
    optimizer = {"use": "sgd", "lr": 0.03}
    trainer = Trainer(model, schedule, optimizer=optimizer, backend="threads", stages=2)
    train = Batches(digits.train, 32)
    for epoch in range(3):
        trainer.fit(train.batches(epoch), len(train))
    accuracy = trainer.evaluate(Batches(digits.test, 128, shuffle=False, drop_last=False).batches())["accuracy"]
    assert accuracy is not None
    assert accuracy > 0.85


def test_block_updates_with_stashed_weights_are_sgd_with_a_constant_delay() -> None:
    """A queue of past weights around plain SGD: update g applies the gradient taken at version g - 2."""
    rows = batches(15)
    reference, model = built("mlp"), built("mlp")
    parameters = list(reference.parameters())
    versions = [[p.detach().clone() for p in parameters]]
    for g, (x, y) in enumerate(rows):
        for parameter, value in zip(parameters, versions[max(0, g - 2)], strict=True):
            parameter.data.copy_(value)
        gradients = torch.autograd.grad(torch.nn.functional.cross_entropy(reference(x), y), parameters)
        versions.append([w.add(d, alpha=-0.1) for w, d in zip(versions[-1], gradients, strict=True)])
    schedule = replace(load("async-bu"), weights=Weights(backward="same"))
    Trainer(model, schedule, optimizer={"use": "sgd", "lr": 0.1}, backend="serial", stages=3).fit(rows)
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), versions[-1], strict=True))

"""Forwards that run again: the same numbers, no graph in between, and nothing that moves twice."""

from __future__ import annotations

import json
import weakref
from collections.abc import Callable
from dataclasses import dataclass

import pytest
import torch
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks
from torch.nn.functional import cross_entropy

from asyncpipe import Trainer
from asyncpipe.compiler import compile_schedule
from asyncpipe.errors import UserCodeError
from asyncpipe.ir import Action
from asyncpipe.runtime.recompute import update_can_follow_recompute
from asyncpipe.runtime.stage import Stage, StageOptions
from asyncpipe.schedule import Schedule, load
from tests.networks import NETWORKS, assert_same_state, batches, built

SGD = {"use": "sgd", "lr": 0.05, "momentum": 0.9}


def trained(
    schedule: Schedule, network: str, backend: str, stages: int = 2, count: int = 8
) -> tuple[tuple[float, ...], nn.Sequential]:
    model = built(network)
    torch.manual_seed(5)
    trainer = Trainer(model, schedule, optimizer=SGD, backend=backend, stages=stages, intra_op_threads=1)
    return trainer.fit(batches(count)).losses, model


@pytest.mark.parametrize(
    ("network", "stages", "count"), [*((network, 2, 8) for network in NETWORKS), ("lstm", 2, 12), ("lstm", 3, 8)]
)
def test_gpipe_with_recomputation_is_gpipe_bit_for_bit(network: str, stages: int, count: int) -> None:
    """oneDNN has other kernels for an LSTM whose forward is never gone back through: they would differ in last bits."""
    losses, model = trained(load("gpipe", ["update.every=4"]), network, "serial", stages, count)
    again, recomputed = trained(load("gpipe-recompute", ["update.every=4"]), network, "serial", stages, count)
    assert again == losses
    assert_same_state(recomputed, model)


def test_on_threads_running_statistics_move_once_too() -> None:
    losses, model = trained(load("gpipe", ["update.every=4"]), "convnet", "threads")
    again, recomputed = trained(load("gpipe-recompute", ["update.every=4"]), "convnet", "threads")
    assert again == losses
    assert_same_state(recomputed, model)


@pytest.mark.parametrize("network", ["convnet", "dropout"])
def test_recomputation_within_the_backward_finds_the_stashed_weights(network: str) -> None:
    losses, model = trained(load("pipedream"), network, "serial")
    again, recomputed = trained(load("pipedream", ["recompute=full", "costs.B=2"]), network, "serial")
    assert again == losses
    assert_same_state(recomputed, model)


def test_features_replay_goes_back_through_forwards_at_the_weights_of_now() -> None:
    """F of stage s and microbatch m reads version m - (last - s), R and B read version m."""
    data, model, reference = batches(7), built("mlp"), built("mlp")
    trainer = Trainer(model, "fr", optimizer={"use": "sgd", "lr": 0.05}, backend="serial", stages=3)
    losses = trainer.fit(data).losses
    parts = [nn.Sequential(*(child for _, layer in part for child in layer)) for part in split_like(trainer, reference)]
    assert list(losses) == plain_features_replay(parts, data, 0.05)
    assert_same_state(model, reference)


def split_like(trainer: Trainer, model: nn.Sequential) -> list[list[tuple[str, nn.Sequential]]]:
    from asyncpipe.models.modules import split_layers

    layers = iter(split_layers(model))
    return [[next(layers) for _ in part] for part in trainer.cut]


def plain_features_replay(parts: list[nn.Sequential], data: list[tuple[Tensor, Tensor]], lr: float) -> list[float]:
    last = len(parts) - 1
    history = [[state_of(part)] for part in parts]
    losses = []
    for m, (x, target) in enumerate(data):
        inputs, value = [], x
        for s, part in enumerate(parts):
            part.load_state_dict(history[s][max(0, m - (last - s))])
            inputs.append(value.clone().requires_grad_())
            with torch.no_grad():
                value = part(value)
        losses.append(cross_entropy(value, target).item())
        gradient = None
        for s in range(last, -1, -1):
            gradient = replayed_step(parts[s], history[s], inputs[s], target if s == last else None, gradient, lr)
    return losses


def replayed_step(
    part: nn.Sequential,
    history: list[dict[str, Tensor]],
    value: Tensor,
    target: Tensor | None,
    gradient: Tensor | None,
    lr: float,
) -> Tensor:
    part.load_state_dict(history[-1])
    result = part(value) if target is None else cross_entropy(part(value), target)
    found = torch.autograd.grad(result, [value, *part.parameters()], gradient)
    with torch.no_grad():
        for parameter, one in zip(part.parameters(), found[1:], strict=True):
            parameter.add_(one, alpha=-lr)
    history.append(state_of(part))
    return found[0]


def state_of(part: nn.Module) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in part.state_dict().items()}


@dataclass(eq=False)
class Saved:
    """What autograd keeps of one tensor."""

    tensor: Tensor


def most_saved(schedule: str) -> int:
    """The most tensors that graphs keep between two actions."""
    alive: weakref.WeakSet[Saved] = weakref.WeakSet()
    most = 0

    def pack(tensor: Tensor) -> Saved:
        saved = Saved(tensor)
        alive.add(saved)
        return saved

    def watch(stream: int, action: Action) -> None:
        nonlocal most
        most = max(most, len(alive))

    trainer = Trainer(built("mlp"), load(schedule, ["update.every=8"]), backend="serial", stages=2, hook=watch)
    with saved_tensors_hooks(pack, lambda saved: saved.tensor):
        trainer.fit(batches(8))
    return most


def test_graphs_live_from_recompute_to_backward_only() -> None:
    """Eight microbatches in flight at two stages against one at each."""
    stored, recomputed = most_saved("gpipe"), most_saved("gpipe-recompute")
    assert 0 < recomputed <= stored / 8


class Masked(nn.Module):
    """Dropout that tells its masks; each input has its own first number."""

    def __init__(self, features: int, told: dict[float, list[Tensor]]) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(features))
        self.told = told

    def __deepcopy__(self, memo: object) -> Masked:
        copy = Masked(len(self.weight), self.told)
        copy.weight = nn.Parameter(self.weight.detach().clone())
        return copy

    def forward(self, x: Tensor) -> Tensor:
        mask = nn.functional.dropout(torch.ones_like(x[:, 1:]), 0.5)
        self.told.setdefault(x.detach()[0, 0].item(), []).append(mask)
        return torch.cat((x[:, :1], x[:, 1:] * mask * self.weight[1:]), 1)


@pytest.mark.parametrize("backend", ["serial", "threads"])
def test_the_second_forward_repeats_the_masks_of_the_first(backend: str) -> None:
    """While other stages draw from the same generator, on threads."""
    told: list[dict[float, list[Tensor]]] = [{} for _ in range(4)]
    model = nn.Sequential(*(Masked(40, told[s]) for s in range(4)))
    data = [(torch.full((3, 40), float(m)), torch.zeros(3, 40)) for m in range(60)]
    schedule = load("gpipe-recompute", ["update.every=20"])
    trainer = Trainer(model, schedule, nn.functional.mse_loss, {"use": "sgd", "lr": 0.0}, backend, stages=4)
    trainer.prepare(data[0][0])
    for masks in told:
        masks.clear()
    trainer.fit(data)
    for masks in told:
        assert len(masks) == 60
        assert all(torch.equal(first, second) for first, second in masks.values())
    everything = {tuple(first.flatten().tolist()) for masks in told for first, _ in masks.values()}
    assert len(everything) == 4 * 60


def stage_of(module: nn.Module, hold: bool = False) -> Stage:
    return Stage(1, module, 2, False, None, StageOptions(recompute="full", hold=hold))


def test_a_backward_reads_the_weights_that_its_recompute_read() -> None:
    torch.manual_seed(0)
    module = nn.Sequential(nn.Linear(6, 5), nn.Tanh(), nn.Linear(5, 4))
    stage, x, dy = stage_of(module, hold=True), torch.randn(3, 6), torch.randn(3, 4)
    stage.forward(1, x)
    add_to(stage, 1.0)
    leaf = x.clone().requires_grad_()
    expected = torch.autograd.grad(module(leaf), [leaf, *module.parameters()], dy)
    stage.forward_again(1, stage.arena)
    add_to(stage, 1.0)
    (dx,), gradients = stage.backward(1, [dy])
    assert all(torch.equal(a, b) for a, b in zip([dx, *gradients], expected, strict=True))  # type: ignore[arg-type]
    assert torch.equal(stage.forward(1, x), module(x))


def add_to(stage: Stage, change: float) -> None:
    for view in stage.arena.views:
        view.add_(change)


def trained_from_seed(schedule: str, make: Callable[[], nn.Sequential]) -> nn.Sequential:
    torch.manual_seed(0)
    model = make()
    data = [(x.flatten(1), t) for x, t in batches(8)]
    Trainer(model, load(schedule, ["update.every=4"]), optimizer=SGD, backend="serial", stages=2).fit(data)
    return model


def test_a_module_that_overwrites_its_input_runs_again_on_a_copy() -> None:
    def make() -> nn.Sequential:
        return nn.Sequential(nn.Linear(64, 8), nn.Sequential(nn.ReLU(inplace=True), nn.Linear(8, 10)))

    assert_same_state(trained_from_seed("gpipe-recompute", make), trained_from_seed("gpipe", make))


def test_a_buffer_that_the_first_forward_assigned_is_the_old_one_in_the_second() -> None:
    def make() -> nn.Sequential:
        return nn.Sequential(nn.Sequential(nn.Linear(64, 8), Scaled()), nn.Linear(8, 10))

    stored, again = trained_from_seed("gpipe", make), trained_from_seed("gpipe-recompute", make)
    assert_same_state(again, stored)
    scaled = again.get_submodule("0.1")
    assert isinstance(scaled, Scaled)
    assert scaled.scale.item() == pytest.approx(0.9**8)
    assert scaled.seen == 8


class Scaled(nn.Module):
    """Replaces a buffer in each forward, and counts in another that begins as None."""

    scale: Tensor
    seen: Tensor | None

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("scale", torch.ones((), dtype=torch.float64))
        self.register_buffer("seen", None)

    def forward(self, x: Tensor) -> Tensor:
        y = x * self.scale.float()
        self.scale = self.scale * 0.9
        self.seen = torch.ones(()) if self.seen is None else self.seen + 1
        return y


class Fickle(nn.Linear):
    """Draws in every second forward."""

    calls = 0

    def forward(self, x: Tensor) -> Tensor:
        Fickle.calls += 1
        return super().forward(x) + (torch.rand(10) if Fickle.calls % 2 == 0 else 0)


def test_a_second_forward_that_draws_other_numbers_is_refused() -> None:
    data = [(x.flatten(1), t) for x, t in batches(4)]
    model = nn.Sequential(nn.Linear(64, 10), Fickle(10, 10))
    trainer = Trainer(model, load("gpipe-recompute", ["update.every=1"]), backend="serial", stages=2)
    trainer.prepare(data[0][0])
    Fickle.calls = 0
    with pytest.raises(UserCodeError, match=r"the second forward draws aten\.rand"):
        trainer.fit(data)


def test_a_copy_of_the_weights_is_held_only_where_an_update_can_come_between() -> None:
    for name in ("gpipe-recompute", "fr"):
        program = compile_schedule(load(name), 4).program()
        assert not any(update_can_follow_recompute(program, stage) for stage in program.recomputed)
    body = ["F[s, m]", "R[s, m-(last-s)]", "B[s, m-(last-s)-1]", "U[s, m-(last-s)-1]"]
    early = compile_schedule(load("fr", [f"streams.inner.body={json.dumps(body)}"]), 3).program()
    assert all(update_can_follow_recompute(early, stage) for stage in early.recomputed)

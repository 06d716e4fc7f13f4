"""FDG, DDG, ADL and pipelined back-propagation against loops of ticks with messages, as their authors' code has them.

The backward is written by hand, so that stored activations may meet the weights of now.
"""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from asyncpipe.schedule import load
from tests.semantics.plain import (
    Batch,
    Versions,
    Weights,
    assert_near,
    backward,
    batches,
    copied,
    forward,
    loss_gradient,
    network,
    reduced,
    sgd,
    trained,
)
from tests.semantics.rules import spike

STAGES = 3


class Modules:
    """What each module keeps: values on the way by (stage, microbatch), gradients until their update."""

    def __init__(self, versions: Versions, data: list[Batch], shrink: float, stash: bool, every: int = 1) -> None:
        self.versions, self.data = versions, data
        self.shrink, self.stash, self.every = shrink, stash, every
        self.saved: dict[tuple[int, int], tuple[Tensor, Tensor, Weights]] = {}
        self.gradients: list[list[Weights]] = [[] for _ in versions.live]

    def forward(self, k: int, b: int, x: Tensor) -> Tensor:
        weights = copied(self.versions.live[k])
        output = forward(weights, x, k == self.versions.last)
        self.saved[k, b] = x, output, weights
        return output

    def backward(self, k: int, b: int, dy: Tensor | None) -> Tensor:
        x, output, read = self.saved.pop((k, b))
        last = k == self.versions.last
        dy = loss_gradient(output, self.data[b][1]) if dy is None else dy * self.shrink
        dx, own = backward(read if self.stash else copied(self.versions.live[k]), x, output, dy, last)
        self.gradients[k].append(own)
        return dx

    def update(self, k: int) -> None:
        if len(self.gradients[k]) == self.every:
            self.versions.step(k, reduced(self.gradients[k], "sum"))
            self.gradients[k].clear()


def fully_decoupled(modules: Modules, order: str) -> None:
    """FDG: in a tick every module works on its own; messages arrive with the next one. `order`: BUF or FBU."""
    last, count = modules.versions.last, len(modules.data)
    up: dict[int, Tensor] = {}
    down: dict[int, Tensor] = {}
    for tick in range(count + 2 * last):
        sent_up, sent_down = {}, {}
        for k in range(last + 1):
            new, old = tick - k, tick - k - 2 * (last - k)
            for op in "FBU" if k == last else order:
                if op == "F" and 0 <= new < count:
                    sent_up[k + 1] = modules.forward(k, new, up[k] if k else modules.data[new][0])
                elif op == "B" and 0 <= old < count:
                    sent_down[k - 1] = modules.backward(k, old, down.get(k) if k < last else None)
                elif op == "U" and 0 <= old < count:
                    modules.update(k)
        up, down = sent_up, sent_down


def decoupled_backward(modules: Modules) -> None:
    """DDG: in each iteration one forward through all modules, then every module goes back with the last message."""
    last, count = modules.versions.last, len(modules.data)
    down: dict[int, Tensor] = {}
    for t in range(count + last):
        if t < count:
            x = modules.data[t][0]
            for k in range(last + 1):
                x = modules.forward(k, t, x)
        sent = {}
        for k in range(last + 1):
            if 0 <= t - (last - k) < count:
                sent[k - 1] = modules.backward(k, t - (last - k), down[k] if k < last else None)
                modules.update(k)
        down = sent


def double(count: int) -> list[Batch]:
    return batches(count, torch.float64)


@pytest.mark.parametrize("shrink", ["1/2", None])
@pytest.mark.parametrize("stash", [False, True])
@pytest.mark.parametrize(("name", "order"), [("fdg", "BUF"), ("fdg-paper-order", "FBU")])
def test_fdg_is_its_loop_of_ticks(name: str, order: str, stash: bool, shrink: str | None) -> None:
    data, model = double(10), network(STAGES, torch.float64)
    modules = Modules(Versions(model, sgd()), data, 0.5 if shrink else 1.0, stash)
    fully_decoupled(modules, order)
    gradient = f"gradient=[{{shrink: {shrink}}}]" if shrink else "gradient=[]"
    trained(model, load(name, [f"weights.backward={'same' if stash else 'latest'}", gradient]), data)
    assert_near(model, modules.versions.live)


@pytest.mark.parametrize("stash", [False, True])
def test_ddg_is_its_loop_with_a_locked_forward(stash: bool) -> None:
    data, model = double(10), network(STAGES, torch.float64)
    modules = Modules(Versions(model, sgd()), data, 1.0, stash)
    decoupled_backward(modules)
    trained(model, load("ddg", [f"weights.backward={'same' if stash else 'latest'}"]), data)
    assert_near(model, modules.versions.live)


@pytest.mark.parametrize(("name", "order"), [("adl", "FBU"), ("fdg", "BUF")])
def test_adl_sums_over_ticks_in_both_of_its_modes(name: str, order: str) -> None:
    data, model = double(12), network(STAGES, torch.float64)
    modules = Modules(Versions(model, sgd()), data, 1.0, stash=False, every=4)
    fully_decoupled(modules, order)
    text = ["update.every=4", "update.reduce=sum", "weights.backward=latest", "gradient=[]"]
    trained(model, load(name, text), data)
    assert_near(model, modules.versions.live)


def test_pipelined_back_propagation_compensates_spikes_in_the_ticks_of_fdg() -> None:
    data, model = double(10), network(STAGES, torch.float64)
    rule = spike(0.1, 0.9, [2 * (STAGES - 1 - k) for k in range(STAGES)])
    modules = Modules(Versions(model, rule), data, 1.0, stash=False)
    fully_decoupled(modules, "FBU")
    trained(model, "pipelined-bp", data)
    assert_near(model, modules.versions.live)

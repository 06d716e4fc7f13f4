"""PETRA against a loop of ticks in which every message down is (reconstructed output, gradient)."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, linear

from asyncpipe import Trainer
from asyncpipe.models.reversible import Coupling
from asyncpipe.schedule import load
from tests.semantics.plain import MOMENTUM, Batch, Rule, Weights, batches, copied, reduced, sgd

STAGES, WIDTH, CLASSES = 4, 6, 4


def reversible_network() -> nn.Sequential:
    """Three couplings of linear branches and an output; a stage for each."""
    torch.manual_seed(3)
    half = WIDTH // 2
    branches = [[nn.Sequential(nn.Linear(half, half), nn.Tanh()) for _ in "fg"] for _ in range(STAGES - 1)]
    return nn.Sequential(*(Coupling(f, g) for f, g in branches), nn.Linear(WIDTH, CLASSES)).double()


def couple(weights: Weights, x: Tensor) -> Tensor:
    """Equation 8 of RevNet."""
    f, f_bias, g, g_bias = weights
    x1, x2 = x.chunk(2, 1)
    y1 = x1 + linear(x2, f, f_bias).tanh()
    return torch.cat((y1, x2 + linear(y1, g, g_bias).tanh()), 1)


def uncouple(weights: Weights, y: Tensor) -> Tensor:
    """Equation 9."""
    f, f_bias, g, g_bias = weights
    y1, y2 = y.chunk(2, 1)
    x2 = y2 - linear(y1, g, g_bias).tanh()
    return torch.cat((y1 - linear(x2, f, f_bias).tanh(), x2), 1)


class Modules:
    """Stages that keep no microbatch; gradients wait for their update."""

    def __init__(self, model: nn.Sequential, data: list[Batch], every: int, rule: Rule) -> None:
        self.data, self.every = data, every
        self.live = [[nn.Parameter(p.detach().clone()) for p in stage.parameters()] for stage in model]
        self.apply = [rule(k, stage) for k, stage in enumerate(self.live)]
        self.gradients: list[list[Weights]] = [[] for _ in self.live]

    def last(self, b: int, x: Tensor) -> tuple[Tensor, Tensor]:
        """Forward and backward of the last stage: what it read, and the gradient of that."""
        leaves = [x.detach().requires_grad_(), *(w.requires_grad_() for w in copied(self.live[-1]))]
        loss = cross_entropy(linear(leaves[0], *leaves[1:]), self.data[b][1])
        dx, *own = torch.autograd.grad(loss, leaves)
        self.gradients[-1].append(own)
        return x, dx

    def back(self, k: int, output: Tensor, dy: Tensor) -> tuple[Tensor, Tensor]:
        """The input is found with the weights of now, and the gradient taken there."""
        weights = copied(self.live[k])
        leaves = [uncouple(weights, output).requires_grad_(), *(w.requires_grad_() for w in weights)]
        dx, *own = torch.autograd.grad(couple(leaves[1:], leaves[0]), leaves, dy)
        self.gradients[k].append(own)
        return leaves[0].detach(), dx

    def update(self, k: int) -> None:
        if len(self.gradients[k]) == self.every:
            self.apply[k](reduced(self.gradients[k]))
            self.gradients[k].clear()


def ticks(modules: Modules) -> None:
    last, count = STAGES - 1, len(modules.data)
    up: dict[int, Tensor] = {}
    down: dict[int, tuple[Tensor, Tensor]] = {}
    for tick in range(count + 2 * last):
        sent_up, sent_down = {}, {}
        for k in range(STAGES):
            new, old = tick - k, tick - k - 2 * (last - k)
            x = modules.data[new][0] if k == 0 and new < count else up.get(k)
            if 0 <= new < count and x is not None:
                if k == last:
                    sent_down[k - 1] = modules.last(new, x)
                else:
                    sent_up[k + 1] = couple(copied(modules.live[k]), x)
            if 0 <= old < count:
                if k < last:
                    sent_down[k - 1] = modules.back(k, *down[k])
                modules.update(k)
        up, down = sent_up, sent_down


@pytest.mark.parametrize("every", [1, 2])
@pytest.mark.parametrize("backend", ["serial", "threads"])
def test_petra_is_its_loop_of_ticks(backend: str, every: int) -> None:
    """On `threads` too: one stream runs all of a stage, so that its order is fixed."""
    model = reversible_network()
    data = [(torch.cat((x, x[:, :1]), 1), y) for x, y in batches(12, torch.float64)]
    modules = Modules(model, data, every, sgd())
    ticks(modules)
    schedule = load("petra", [f"update.every={every}"])
    Trainer(model, schedule, optimizer=MOMENTUM, backend=backend, stages=STAGES, intra_op_threads=1).fit(data)
    expected = [p.detach() for stage in modules.live for p in stage]
    for found, tensor in zip(model.parameters(), expected, strict=True):
        torch.testing.assert_close(found.detach(), tensor, rtol=1e-11, atol=1e-11)

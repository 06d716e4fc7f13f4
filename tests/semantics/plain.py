"""What the oracles are written with: stages of tanh(x W' + b), their versions, plain torch, nothing of the runtime."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, linear

from asyncpipe import Trainer
from asyncpipe.ir import Action
from asyncpipe.schedule import Schedule, load_text
from asyncpipe.schedule.source import Report

Batch = tuple[Tensor, Tensor]
Weights = list[Tensor]
"""Of one stage: the matrix (out, in) and the bias (out)."""
Rule = Callable[[int, list[nn.Parameter]], Callable[[Sequence[Tensor]], None]]
"""(stage, its parameters) -> what one update does to them, given their gradients."""

Hook = Callable[[int, Action], None]
"""(number of the stream, action), before each action that ends."""

FEATURES, CLASSES = 5, 4
MOMENTUM: Mapping[str, Any] = {"use": "sgd", "lr": 0.1, "momentum": 0.9}


def network(stages: int, dtype: torch.dtype = torch.float32) -> nn.Sequential:
    """One layer for each stage; every tanh goes with the layer before it, and the last layer has none."""
    torch.manual_seed(3)
    widths = [*(FEATURES + k % 2 for k in range(stages)), CLASSES]
    layers = [module for a, b in pairwise(widths) for module in (nn.Linear(a, b, dtype=dtype), nn.Tanh())]
    return nn.Sequential(*layers[:-1])


def batches(count: int, dtype: torch.dtype = torch.float32, rows: int = 3) -> list[Batch]:
    generator = torch.Generator().manual_seed(1)
    return [
        (
            torch.randn(rows, FEATURES, generator=generator).to(dtype),
            torch.randint(CLASSES, (rows,), generator=generator),
        )
        for _ in range(count)
    ]


def parsed(text: str) -> Schedule:
    report = Report()
    schedule = load_text(f"asyncpipe: 1\n{text}\n", "inline.yaml", report)
    assert schedule is not None, report.diagnostics
    return schedule


def trained(
    model: nn.Sequential,
    schedule: str | Schedule,
    data: list[Batch],
    optimizer: Mapping[str, Any] = MOMENTUM,
    hook: Hook | None = None,
) -> Trainer:
    """`model` after a run on `serial`, a stage for each of its linear layers."""
    stages = sum(isinstance(layer, nn.Linear) for layer in model)
    trainer = Trainer(model, schedule, optimizer=optimizer, backend="serial", stages=stages, hook=hook)
    trainer.fit(data)
    return trainer


def sgd(lr: float = 0.1, momentum: float = 0.9) -> Rule:
    return by_torch(lambda parameters: torch.optim.SGD(parameters, lr=lr, momentum=momentum))


def by_torch(make: Callable[[Any], torch.optim.Optimizer]) -> Rule:
    def rule(stage: int, parameters: list[nn.Parameter]) -> Callable[[Sequence[Tensor]], None]:
        optimizer = make(parameters)

        def apply(gradients: Sequence[Tensor]) -> None:
            for parameter, gradient in zip(parameters, gradients, strict=True):
                parameter.grad = gradient.clone()
            optimizer.step()

        return apply

    return rule


class Versions:
    """The stages of a model: `kept[k][v]` are the weights of stage k after v updates."""

    def __init__(self, model: nn.Sequential, rule: Rule) -> None:
        layers = [layer for layer in model if isinstance(layer, nn.Linear)]
        self.live = [[nn.Parameter(p.detach().clone()) for p in layer.parameters()] for layer in layers]
        self.kept = [[copied(stage)] for stage in self.live]
        self._apply = [rule(k, stage) for k, stage in enumerate(self.live)]

    @property
    def last(self) -> int:
        return len(self.live) - 1

    def read(self, stage: int, version: int) -> Weights:
        return self.kept[stage][max(0, version)]

    def newest(self, stage: int) -> Weights:
        return self.kept[stage][-1]

    def step(self, stage: int, gradients: Sequence[Tensor]) -> None:
        self._apply[stage](gradients)
        self.kept[stage].append(copied(self.live[stage]))


def copied(weights: Sequence[Tensor]) -> Weights:
    return [tensor.detach().clone() for tensor in weights]


def whole_gradients(stages: Sequence[Weights], x: Tensor, y: Tensor) -> list[Weights]:
    """Of the loss of the whole network at the given weights, by autograd: by stage."""
    leaves = [[tensor.detach().requires_grad_() for tensor in stage] for stage in stages]
    for k, (matrix, bias) in enumerate(leaves):
        x = linear(x, matrix, bias)
        x = x if k == len(leaves) - 1 else x.tanh()
    found = iter(torch.autograd.grad(cross_entropy(x, y), [tensor for stage in leaves for tensor in stage]))
    return [[next(found), next(found)] for _ in leaves]


def forward(weights: Weights, x: Tensor, last: bool) -> Tensor:
    product = linear(x, *weights)
    return product if last else product.tanh()


def loss_gradient(output: Tensor, y: Tensor) -> Tensor:
    leaf = output.detach().requires_grad_()
    return torch.autograd.grad(cross_entropy(leaf, y), leaf)[0]


def backward(weights: Weights, x: Tensor, output: Tensor, dy: Tensor, last: bool) -> tuple[Tensor, Weights]:
    """(gradient of x, of the weights) by hand: x and output as some forward left them, weights of any age."""
    inner = dy if last else dy * (1 - output * output)
    return inner @ weights[0], [inner.T @ x, inner.sum(0)]


def stale_gradients(
    read: Sequence[Weights], now: Sequence[Weights], x: Tensor, y: Tensor, shrink: float = 1.0
) -> list[Weights]:
    """By stage, from the activations that the weights `read` gave, back through the weights `now`."""
    values = [x]
    for k, weights in enumerate(read):
        values.append(forward(weights, values[-1], k == len(read) - 1))
    dy, gradients = loss_gradient(values[-1], y) / shrink, []
    for k in reversed(range(len(read))):
        dy, own = backward(now[k], values[k], values[k + 1], dy * shrink, k == len(read) - 1)
        gradients.append(own)
    return gradients[::-1]


def reduced(parts: Sequence[Weights], reduce: str = "mean") -> Weights:
    """The sum of the gradients in ascending order, or the mean."""
    sums = list(parts[0])
    for part in parts[1:]:
        sums = [a + b for a, b in zip(sums, part, strict=True)]
    return sums if reduce == "sum" or len(parts) == 1 else [total / len(parts) for total in sums]


def assert_same(model: nn.Sequential, stages: Sequence[Sequence[Tensor]]) -> None:
    """Bit for bit."""
    expected = [tensor for stage in stages for tensor in stage]
    assert [torch.equal(a, b) for a, b in zip(model.parameters(), expected, strict=True)] == [True] * len(expected)


def assert_near(model: nn.Sequential, stages: Sequence[Sequence[Tensor]]) -> None:
    """To 1e-12 in double precision: the same sums and products, in another order or with another BLAS call."""
    expected = [tensor for stage in stages for tensor in stage]
    for found, tensor in zip(model.parameters(), expected, strict=True):
        assert found.dtype == torch.float64
        torch.testing.assert_close(found.detach(), tensor.detach(), rtol=1e-12, atol=1e-12)

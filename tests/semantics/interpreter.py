"""A file of the library executed action by action in plain torch, on the plain clock of tests/library.

It shares no code with compiler and runtime: the file is read, ordered and timed by `PlainDiagram` and `Clock`, forwards
and backwards are written by hand, and only `torch.optim` updates.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from tests.library.plain_clock import Clock
from tests.library.plain_diagram import PlainAction, PlainDiagram
from tests.semantics.plain import Batch, Rule, Weights, backward, copied, forward, loss_gradient, reduced

__all__ = ["interpret"]


def interpret(
    name: str, model: nn.Sequential, data: list[Batch], rule: Rule, changes: dict[str, Any] | None = None
) -> tuple[list[float], list[Weights]]:
    """(the loss of every microbatch, the weights by stage after the run). Replicas take the batches in turn."""
    layers = [layer for layer in model if isinstance(layer, nn.Linear)]
    count = int(PlainDiagram(name, len(layers), 0, changes).file.get("replicas", {}).get("count", 1))
    diagram = PlainDiagram(name, len(layers), len(data) // count, changes)
    machine = _Machine(diagram, [_Replica(diagram, layers, data[r::count], rule) for r in range(count)])
    machine.run()
    losses = [loss for column in zip(*(replica.losses for replica in machine.replicas), strict=True) for loss in column]
    return losses, machine.drained()


class _Replica:
    """One copy of the weights, and what its actions leave for later ones."""

    def __init__(self, diagram: PlainDiagram, layers: list[nn.Linear], data: list[Batch], rule: Rule) -> None:
        self.diagram, self.data, self.rule = diagram, data, rule
        self.live = [[nn.Parameter(p.detach().clone()) for p in layer.parameters()] for layer in layers]
        self.kept = [[copied(stage)] for stage in self.live]
        self.apply: dict[tuple[int, int | None], Any] = {}
        self.saved: dict[tuple[int, int], tuple[Tensor, Tensor, Weights]] = {}
        self.down: dict[tuple[int, int], Tensor] = {}
        self.gradients: dict[tuple[int, int], Weights] = {}
        self.losses = [0.0] * diagram.n
        ((self.shrink,),) = [list(entry.values()) for entry in diagram.file.get("gradient", [])] or [[1.0]]

    def forward(self, k: int, m: int) -> None:
        versions = self.kept[k]
        lag = self.diagram.lag
        weights = versions[-1] if lag is None else versions[max(0, m // self.diagram.every - lag)]
        x = self.data[m][0] if k == 0 else self.saved[k - 1, m][1]
        self.run_again(k, m, x, weights)
        if k == self.diagram.last:
            self.losses[m] = float(cross_entropy(self.saved[k, m][1], self.data[m][1]))

    def run_again(self, k: int, m: int, x: Tensor, weights: Weights) -> None:
        self.saved[k, m] = x, forward(weights, x, k == self.diagram.last), weights

    def recompute(self, k: int, m: int) -> None:
        x, _, read = self.saved[k, m]
        self.run_again(k, m, x, read if self.diagram.stashes else self.kept[k][-1])

    def backward(self, k: int, m: int) -> None:
        x, output, read = self.saved[k, m]
        last = k == self.diagram.last
        dy = loss_gradient(output, self.data[m][1]) if last else self.down.pop((k, m)) * self.shrink
        weights = read if self.diagram.stashes or k in self.diagram.recomputed else self.kept[k][-1]
        self.down[k - 1, m], self.gradients[k, m] = backward(weights, x, output, dy, last)

    def reduced(self, k: int, update: int) -> Weights:
        every = self.diagram.every
        parts = [self.gradients.pop((k, m)) for m in range(update * every, (update + 1) * every)]
        return reduced(parts, self.diagram.file.get("update", {}).get("reduce", "mean"))

    def update(self, k: int, gradients: Weights, owner: int | None) -> None:
        if (k, owner) not in self.apply:
            self.apply[k, owner] = self.rule(k, self.live[k])
        self.apply[k, owner](gradients)
        self.kept[k].append(copied(self.live[k]))

    def set(self, k: int, values: Weights) -> None:
        """Weights that came from other replicas."""
        for parameter, value in zip(self.live[k], values, strict=True):
            parameter.data.copy_(value)
        self.kept[k][-1] = copied(values)


class _Machine(Clock):
    """All replicas in step: none of the library's files lets one be slower than another."""

    def __init__(self, diagram: PlainDiagram, replicas: list[_Replica]) -> None:
        super().__init__(diagram)
        self.replicas = replicas
        self.snapshots: dict[PlainAction, list[Weights]] = {}
        self.outer = [[nn.Parameter(p.detach().clone()) for p in stage] for stage in replicas[0].live]
        self.optimizers: dict[int, torch.optim.SGD] = {}
        self.starts = {"F": _Replica.forward, "R": _Replica.recompute, "B": _Replica.backward, "I": _Replica.backward}

    def take(self, action: PlainAction, start: Any, end: Any) -> None:
        super().take(action, start, end)
        k, op, index = action
        for replica in self.replicas if op in self.starts else []:
            self.starts[op](replica, k, index)
        if op == "SYNC" and self.diagram.sync == "average":
            self.snapshots[action] = [copied(replica.live[k]) for replica in self.replicas]

    def finish(self, action: PlainAction) -> None:
        k, op, index = action
        if op == "U":
            self.update(k, index, self.diagram.stream_of[action])
        if op == "SYNC" and self.diagram.sync != "allreduce":
            (self.average if self.diagram.sync == "average" else self.step_outside)(action)
        super().finish(action)

    def update(self, k: int, index: int, stream: int) -> None:
        owner = stream if self.diagram.file.get("update", {}).get("owner") == "stream" else None
        parts = [replica.reduced(k, index) for replica in self.replicas]
        if self.diagram.sync == "allreduce":
            parts = [reduced(parts)] * len(parts)
        for replica, part in zip(self.replicas, parts, strict=True):
            replica.update(k, part, owner)

    def average(self, action: PlainAction) -> None:
        k = action[0]
        mean = reduced(self.snapshots[action])
        for replica, before in zip(self.replicas, self.snapshots.pop(action), strict=True):
            moved = [w.data + (a - b) for w, a, b in zip(replica.live[k], mean, before, strict=True)]
            replica.set(k, mean if self.diagram.options.get("blocking", True) else moved)

    def step_outside(self, action: PlainAction) -> None:
        k, options = action[0], self.diagram.options
        outer = {key: options[key] for key in ("lr", "momentum", "nesterov")}
        optimizer = self.optimizers.setdefault(k, torch.optim.SGD(self.outer[k], **outer))
        mean = reduced([copied(replica.live[k]) for replica in self.replicas])
        for parameter, value in zip(self.outer[k], mean, strict=True):
            parameter.grad = parameter.detach() - value
        optimizer.step()
        for replica in self.replicas:
            replica.set(k, copied(self.outer[k]))

    def drained(self) -> list[Weights]:
        """At the end replicas take their mean."""
        return [reduced([copied(replica.live[k]) for replica in self.replicas]) for k in range(self.diagram.S)]

"""Constants of the loss around the present weights, estimated from a few batches: what bounds on staleness ask for.

Only a drained model is probed. Weights, buffers and random numbers are as before afterwards, to the last bit.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from asyncpipe.analysis.staleness_theory import sigma
from asyncpipe.runtime.divergence import norm
from asyncpipe.runtime.stage import Loss

__all__ = ["GradientConstants", "GradientProbe"]

_POWER_ITERATIONS = 3
_RELATIVE_STEP = 1e-3
Tensors = list[Tensor]


class GradientConstants(NamedTuple):
    """What one probe found, in norms over all parameters.

    gradient: ||mean of the batches' gradients||. sigma_sgd: the deviation of a batch's gradient from that mean.
    sigma_stale: of the change of a batch's gradient when the weights move as far as between a forward and its update.
    lipschitz: the largest ||grad(theta + h v) - grad(theta)|| / h that power iteration from the gradient's direction
    finds, h = `distance`: a lower estimate of the Lipschitz constant of the gradient.
    """

    batches: int
    gradient: float
    sigma_sgd: float
    sigma_stale: float | None
    lipschitz: float
    distance: float


@dataclass(frozen=True)
class GradientProbe:
    """Takes gradients of `loss(model(inputs), targets)` at weights near the present ones."""

    model: nn.Module
    loss: Loss

    def constants(
        self, batches: Sequence[tuple[Any, Any]], displacements: Sequence[Sequence[Tensor]], distance: float = 0.0
    ) -> GradientConstants | None:
        """From at least two batches: a gradient of each, one more for each displacement (theta_F - theta_U, tensors
        like the model's parameters, at most as many as batches), and three. `distance` is h, by default 1e-3 ||theta||.
        None where the gradient vanishes.
        """
        parameters = list(self.model.parameters())
        wanted = [i for i, parameter in enumerate(parameters) if parameter.requires_grad]
        weights: Tensors = [parameters[i] for i in wanted]
        with _undone(self.model, weights) as start:
            gradients = [self._gradient(weights, batch) for batch in batches]
            size = norm(_mean(gradients))
            distance = distance or _RELATIVE_STEP * norm(weights)
            if not size or not distance:
                return None
            changes = []
            for batch, here, moved in zip(batches, gradients, displacements, strict=False):
                _move(weights, start, [moved[i] for i in wanted])
                changes.append(_difference(self._gradient(weights, batch), here))
            steepest = self._steepest(weights, start, batches[0], gradients[0], distance)
        stale = _sigma(changes) if len(changes) > 1 else None
        return GradientConstants(len(batches), size, _sigma(gradients), stale, steepest, distance)

    def _steepest(
        self, weights: Tensors, start: Tensors, batch: tuple[Any, Any], here: Tensors, distance: float
    ) -> float:
        """Power iteration on the Hessian, by differences of gradients."""
        direction, found = here, 0.0
        for _ in range(_POWER_ITERATIONS):
            size = norm(direction)
            if not size:
                break
            _move(weights, start, [part * (distance / size) for part in direction])
            direction = _difference(self._gradient(weights, batch), here)
            found = max(found, norm(direction) / distance)
        return found

    def _gradient(self, weights: Tensors, batch: tuple[Any, Any]) -> Tensors:
        """With the same random numbers each time: a difference of gradients must not be one of dropout masks."""
        torch.manual_seed(0)
        inputs, targets = batch
        with torch.enable_grad():
            value = self.loss(self.model(inputs), targets)
            return list(torch.autograd.grad(value, weights, allow_unused=True, materialize_grads=True))


def _move(weights: Tensors, start: Tensors, step: Tensors) -> None:
    for weight, base, part in zip(weights, start, step, strict=True):
        weight.copy_(base + part)


def _difference(a: Tensors, b: Tensors) -> Tensors:
    return [x - y for x, y in zip(a, b, strict=True)]


def _mean(gradients: Sequence[Tensors]) -> Tensors:
    return [torch.stack(column).mean(0) for column in zip(*gradients, strict=True)]


def _sigma(gradients: Sequence[Tensors]) -> float:
    squares = [norm(gradient) ** 2 for gradient in gradients]
    return sigma(sum(squares) / len(squares), norm(_mean(gradients)) ** 2, len(squares))


@contextmanager
def _undone(model: nn.Module, weights: Tensors) -> Iterator[Tensors]:
    """Yields copies of the weights; weights, buffers and random numbers come back as they were."""
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        start = [weight.clone() for weight in weights]
        buffers = [(buffer, buffer.clone()) for buffer in model.buffers()]
        try:
            yield start
        finally:
            for tensor, value in (*zip(weights, start, strict=True), *buffers):
                tensor.copy_(value)

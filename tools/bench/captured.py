"""G and CG: one CUDA graph of the whole step, optimizer included; of eager kernels, or of those that Inductor made."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import torch
from torch import Tensor, nn

from asyncpipe.runtime.cuda.api import Cuda, Stream
from asyncpipe.tools.bench.contender import Losses
from asyncpipe.tools.bench.eager import LossOf
from asyncpipe.tools.bench.problem import Batch, Problem

__all__ = ["WholeStep", "resetting", "whole_step"]

_WARM_UP = 3
Body = Callable[[Batch, Stream], Tensor]
"""Issues one step on a batch, all of it on this stream or joined to it; the loss."""


class WholeStep:
    """A graph that is launched once for each update, after its batch was copied to where the graph reads it."""

    def __init__(self, problem: Problem, cuda: Cuda, body: Body, reset: Callable[[], None]) -> None:
        self._cuda = cuda
        self._batches = problem.stream()
        self._stream = cuda.stream(0)
        self._body = body  # gradients and states that the graph uses live as long as it does
        problem.finish()
        with cuda.on(self._stream):
            x, y = problem.batches[0]
            self._places = x.clone(), y.clone()
            for _ in range(_WARM_UP):
                body(self._places, self._stream)
            reset()
        problem.finish()
        with cuda.on(self._stream), cuda.capture(self._stream) as self._graph:
            self._loss = body(self._places, self._stream)

    def train(self, updates: int, keep: Losses | None = None) -> None:
        with self._cuda.on(self._stream):
            for _ in range(updates):
                for place, tensor in zip(self._places, next(self._batches), strict=True):
                    place.copy_(tensor, non_blocking=True)
                self._cuda.launch(self._graph, self._stream)
                if keep is not None:
                    keep.append(self._loss.clone())


def whole_step(problem: Problem, cuda: Cuda, loss_of: LossOf) -> WholeStep:
    """zero_grad, forward, backward and step, captured after a warm-up that leaves no trace."""
    model = problem.model()
    optimizer = problem.optimizer(model)

    def body(batch: Batch, stream: Stream) -> Tensor:
        # Gradients that a capture allocates lie at the same places in every launch, and are overwritten, not added to.
        optimizer.zero_grad(set_to_none=True)
        loss = loss_of(model, batch)
        loss.backward()
        optimizer.step()
        return loss.detach()

    return WholeStep(problem, cuda, body, resetting(model, lambda: [optimizer]))


def resetting(model: nn.Module, optimizers: Callable[[], Iterable[torch.optim.Optimizer]]) -> Callable[[], None]:
    """A function that gives the model its present values again, and optimizers their first state, all in place."""
    state = {name: tensor.clone() for name, tensor in model.state_dict().items()}

    @torch.no_grad()
    def reset() -> None:
        for name, tensor in model.state_dict().items():
            tensor.copy_(state[name])
        for optimizer in optimizers():
            optimizer.zero_grad(set_to_none=True)
            for values in optimizer.state.values():
                for value in values.values():
                    if isinstance(value, Tensor):
                        value.zero_()

    return reset

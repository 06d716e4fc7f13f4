"""S: synchronous, in one graph, with weight gradients and updates on side streams: out-of-order back-propagation.

As in Oh et al. 2022 (EuroSys, doi 10.1145/3492321.3519563), updates included and without staleness: the next step
begins when all streams have ended. Linear layers and convolutions have their weight gradients beside the backward pass;
the other parameters have theirs from autograd, and are updated beside it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from asyncpipe.runtime.cuda.api import Cuda, Stream
from asyncpipe.tools.bench.captured import WholeStep, resetting
from asyncpipe.tools.bench.problem import Batch, Problem

__all__ = ["side_streams"]

_SIDES = 2
Gradients = tuple[Tensor | None, ...]


class _Sides:
    """Work beside the main stream. What both use is kept until the streams meet: freed memory is the next one's."""

    def __init__(self, cuda: Cuda, optimizer_of: Callable[[list[nn.Parameter]], torch.optim.Optimizer]) -> None:
        self.cuda = cuda
        self.main: Stream = None
        self.streams = [cuda.stream(0) for _ in range(_SIDES)]
        self.next = 0
        self.kept: list[Any] = []
        self.optimizer_of = optimizer_of
        self.optimizers: dict[tuple[int, ...], torch.optim.Optimizer] = {}

    def begin(self, stream: Stream) -> None:
        """All sides follow the main stream from here on."""
        self.main = stream
        for side in self.streams:
            self._follow(side, stream)

    def join(self) -> None:
        """The main stream goes on after all sides."""
        for side in self.streams:
            self._follow(self.main, side)
        self.kept.clear()

    def update(self, parameters: Sequence[nn.Parameter], inputs: Gradients, work: Callable[[], Gradients]) -> None:
        """Beside the main stream, after what that has issued: gradients by `work`, then their update."""
        side = self.streams[self.next]
        self.next = (self.next + 1) % len(self.streams)
        self._follow(side, self.main)
        with self.cuda.on(side), torch.no_grad():
            for parameter, gradient in zip(parameters, work(), strict=True):
                parameter.grad = gradient
            self._optimizer(parameters).step()
        self.kept += [*inputs, *(parameter.grad for parameter in parameters)]
        for parameter in parameters:
            parameter.grad = None

    def _optimizer(self, parameters: Sequence[nn.Parameter]) -> torch.optim.Optimizer:
        key = tuple(map(id, parameters))
        if key not in self.optimizers:
            self.optimizers[key] = self.optimizer_of(list(parameters))
        return self.optimizers[key]

    def _follow(self, later: Stream, earlier: Stream) -> None:
        event = self.cuda.event()
        self.cuda.record(event, earlier)
        self.cuda.wait(later, event)
        self.kept.append(event)


class _Linear(torch.autograd.Function):
    """y = x W^T + b; the backward gives the gradient of x, and leaves the others to the sides."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, layer: nn.Linear, sides: _Sides) -> Tensor:
        y = nn.functional.linear(x, weight, layer.bias)
        ctx.save_for_backward(x.to(y.dtype))
        ctx.layer, ctx.sides = layer, sides
        return y

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Any:
        (x,), layer = ctx.saved_tensors, ctx.layer
        dx = gradient @ layer.weight.to(gradient.dtype) if ctx.needs_input_grad[0] else None

        def gradients() -> Gradients:
            rows = gradient.flatten(0, -2)
            weight = (rows.t() @ x.flatten(0, -2)).to(layer.weight.dtype)
            return (weight,) if layer.bias is None else (weight, rows.sum(0).to(layer.bias.dtype))

        ctx.sides.update(list(layer.parameters()), (x, gradient), gradients)
        return dx, None, None, None


class _Convolution(torch.autograd.Function):
    """The same of a two-dimensional convolution."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, layer: nn.Conv2d, sides: _Sides) -> Tensor:
        y: Tensor = layer._conv_forward(x, weight, layer.bias)
        ctx.save_for_backward(x.to(y.dtype))
        ctx.layer, ctx.sides = layer, sides
        return y

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Any:
        (x,), layer = ctx.saved_tensors, ctx.layer
        weight = layer.weight.to(gradient.dtype)
        split = partial(_convolution_backward, layer, gradient, x, weight)
        dx = split([True, False, False])[0] if ctx.needs_input_grad[0] else None

        def gradients() -> Gradients:
            found = split([False, True, layer.bias is not None])[1:]
            wanted = zip(layer.parameters(), found, strict=False)
            return tuple(g.to(p.dtype) for p, g in wanted)

        ctx.sides.update(list(layer.parameters()), (x, gradient, weight), gradients)
        return dx, None, None, None


def _convolution_backward(layer: nn.Conv2d, gradient: Tensor, x: Tensor, weight: Tensor, mask: list[bool]) -> Any:
    biases = None if layer.bias is None else list(layer.bias.shape)
    places = (layer.stride, layer.padding, layer.dilation, False, [0, 0], layer.groups, mask)
    return torch.ops.aten.convolution_backward(gradient, x, weight, biases, *places)


_SPLIT: dict[type[nn.Module], type[torch.autograd.Function]] = {nn.Linear: _Linear, nn.Conv2d: _Convolution}


def side_streams(problem: Problem, cuda: Cuda) -> WholeStep:
    """One graph of the whole step over a main stream and two sides."""
    model = problem.model()
    sides = _Sides(cuda, problem.optimizer_over)
    split = [module for module in model.modules() if type(module) in _SPLIT]
    for module in split:
        module.forward = partial(_apply, _SPLIT[type(module)], module, sides)
    own = {id(parameter) for module in split for parameter in module.parameters()}
    for parameter in model.parameters():
        if id(parameter) not in own:
            parameter.register_post_accumulate_grad_hook(partial(_update_other, sides))

    def body(batch: Batch, stream: Stream) -> Tensor:
        sides.begin(stream)
        loss = problem.loss(model, batch)
        loss.backward()
        sides.join()
        return loss.detach()

    return WholeStep(problem, cuda, body, resetting(model, sides.optimizers.values))


def _apply(function: type[torch.autograd.Function], layer: nn.Module, sides: _Sides, x: Tensor) -> Tensor:
    # The weight is an argument so that the first layer, whose input needs no gradient, has a backward too.
    found: Tensor = function.apply(x, layer.weight, layer, sides)
    return found


def _update_other(sides: _Sides, parameter: Tensor) -> None:
    """Of a parameter whose gradient autograd has made."""
    assert isinstance(parameter, nn.Parameter)
    gradient = parameter.grad
    sides.update([parameter], (gradient,), lambda: (gradient,))

"""The stage functions of the CPU back ends: forward, backward and its halves, by autograd, one module copy per slot.

Each (stage, slot) owns a copy of the stage's module whose parameters alias the arena (both weights `latest`), or
weights of its own that forward and backward fill with what they are to read. Several threads may so run forwards and
backwards of one stage at once; swapping the attributes of one shared module, as `functional_call` does, would mix
their weights up.
"""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from asyncpipe.errors import UsageError
from asyncpipe.runtime.arena import Arena
from asyncpipe.runtime.autocast import autocasting
from asyncpipe.runtime.auxiliary import GradientPredictor, WithHead
from asyncpipe.runtime.buffers import SharedBuffers
from asyncpipe.runtime.losses import require_scalar
from asyncpipe.runtime.randomness import RecordedDraws
from asyncpipe.runtime.recompute import FirstForward, Recompute, first_forward, input_from_output, second_forward
from asyncpipe.runtime.stage_functions import Gradients, Value, tensors_of

__all__ = ["Gradients", "Loss", "Stage", "StageOptions"]

Loss = Callable[[Any, Any], Tensor]


@dataclass(frozen=True)
class StageOptions:
    """How a stage departs from plain back-propagation.

    recompute: what its slots keep. hold: a recompute (R) keeps a copy of the live weights for its backward.
    shared_draws: some stage of the run repeats its random numbers. predictor: gives the gradient of the output (DNI).
    input_gradient: whether anything below wants it. autocast: the type that forwards and losses compute in where
    torch.autocast says so. take: what the first stage makes of its input. compiled: by Inductor, if stages are traced.
    """

    recompute: Recompute = "none"
    hold: bool = False
    shared_draws: bool = False
    predictor: GradientPredictor | None = None
    input_gradient: bool = True
    autocast: torch.dtype | None = None
    take: Callable[[Any], Any] | None = None
    compiled: bool = False


@dataclass
class _Slot:
    """One microbatch in flight: its module copy, and what autograd and a second forward need of its forward."""

    module: nn.Module
    buffers: Sequence[tuple[nn.Module, str]]
    parameters: list[nn.Parameter]
    weights: Arena | None
    inputs: tuple[Tensor, ...] = ()
    outputs: tuple[Tensor, ...] = ()
    gradients: tuple[Tensor | None, ...] | None = None
    target: Value = None
    takes_tuple: bool = False
    gives_tuple: bool = False
    first: FirstForward | None = None
    held: Arena | None = None

    def forget(self) -> None:
        """The microbatch has left. The copy of its weights, if any, is the stage's to take back."""
        self.inputs, self.outputs, self.gradients = (), (), None
        self.target = self.first = None


class Stage:
    """Parameters, buffers and slots of one stage. `module` is the model's own part and aliases the arena too.

    With a `loss`, that is the output of the last stage; a stage with a head (WithHead) has it for its own gradient.
    """

    def __init__(
        self,
        number: int,
        module: nn.Module,
        slots: int,
        own_weights: bool,
        loss: Loss | None,
        options: StageOptions | None = None,
    ) -> None:
        self.number = number
        self.module = module
        self.loss = loss
        self.options = options or StageOptions()
        self.arena = Arena.of(module.named_parameters(remove_duplicate=False))
        self.trainable = self.arena.trainable
        self._buffers = SharedBuffers(module)
        self._overwrites_input: bool | None = None
        """Whether the module writes into what it is given; unknown before its first forward."""
        self._slots = [self._make_slot(own_weights) for _ in range(slots)]
        self.arena.alias(module.named_parameters(remove_duplicate=False))

    def _make_slot(self, own_weights: bool) -> _Slot:
        module = copy.deepcopy(self.module)
        places = self._buffers.join(module)
        kept = self.arena.like() if own_weights else None
        (kept or self.arena).alias(module.named_parameters(remove_duplicate=False))
        named = dict(module.named_parameters(remove_duplicate=False))
        return _Slot(module, places, [named[name] for name in self.arena.names], kept)

    def forward(self, slot: int, value: Value, target: Value = None, weights: Arena | None = None) -> Value:
        """The stage's output for the value of the stage before; of the last stage, the loss (a scalar with its graph).

        `weights`: what a slot with weights of its own reads; default: the live ones.
        """
        own = self._slots[slot]
        _fill(own, weights or self.arena)
        value = value if self.options.take is None else self.options.take(value)
        own.inputs = tuple(self._leaf(tensor) for tensor in tensors_of(value))
        own.takes_tuple, own.target = not isinstance(value, Tensor), target
        if self.options.recompute != "none":
            return self._forward_without_graph(own)
        draws = RecordedDraws([]) if self.options.shared_draws else contextlib.nullcontext()
        with torch.enable_grad(), draws:
            result = self._run(own)
        self._buffers.take(own.buffers)
        return result

    def _run(self, own: _Slot) -> Value:
        """What the stage above reads; `outputs` is where the backward begins."""
        with self._autocasting(own.inputs):
            result = start = self._call(own)
            if isinstance(own.module, WithHead):
                result, start = result
            if self.loss is not None:
                start = require_scalar(self.loss(start, own.target))
        own.outputs = tensors_of(start)
        own.gives_tuple = not isinstance(result, Tensor)
        return result if isinstance(own.module, WithHead) else start

    def _autocasting(self, tensors: Sequence[Tensor]) -> contextlib.AbstractContextManager[None]:
        return autocasting(tensors[0].device.type, self.options.autocast)

    def _call(self, own: _Slot) -> Any:
        """The module on its inputs, or on copies where it would overwrite them: leaves, which others read too."""
        given = own.inputs if self._overwrites_input is False else tuple(tensor.clone() for tensor in own.inputs)
        result = own.module(given if own.takes_tuple else given[0])
        if self._overwrites_input is None:
            self._overwrites_input = any(tensor._version for tensor in given)
        return result

    def _forward_without_graph(self, own: _Slot) -> Value:
        with first_forward(own.module, own.inputs) as own.first:
            result = self._run(own)
        self._buffers.take(own.buffers)
        own.outputs = ()
        if self.options.recompute == "invert":
            self._refuse_draws(own.first)
            own.forget()
        return result

    def _refuse_draws(self, first: FirstForward) -> None:
        if first.draws:
            raise UsageError(
                f"recompute: invert: stage {self.number} draws random numbers ({first.draws[0].operation}), and keeps"
                " none for its inverse",
                "remove dropout from reversible stages, or use `recompute: full`",
            )

    def forward_again(self, slot: int, weights: Arena | None, outputs: tuple[Tensor, ...] = ()) -> None:
        """The forward with its graph, as the backward needs it; an inverted stage finds its input from `outputs`.

        `weights`: what a slot with weights of its own reads; default: what its first forward read.
        """
        own = self._slots[slot]
        if self.options.hold and own.weights is None:
            own.held = self.arena.clone()
            own.held.alias(own.module.named_parameters(remove_duplicate=False))
        _fill(own, weights)
        with second_forward(own.module, own.first):
            if self.options.recompute == "invert":
                own.inputs = self._inputs_of(own, outputs)
            self._run(own)
        self._buffers.give(own.buffers)
        own.target = own.first = None

    def _inputs_of(self, own: _Slot, outputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        with torch.no_grad(), self._autocasting(outputs):
            value = input_from_output(own.module, outputs if own.gives_tuple else outputs[0])
        return tuple(self._leaf(tensor) for tensor in tensors_of(value))

    def inputs(self, slot: int) -> tuple[Tensor, ...]:
        """What the stage read, between its forward and its backward, without a graph."""
        return tuple(leaf.detach() for leaf in self._slots[slot].inputs)

    def predicted_gradients(self, slot: int) -> tuple[Tensor | None, ...]:
        """The gradients of the outputs as the predictor of the stage has them."""
        assert self.options.predictor is not None
        return (self.options.predictor.predict(self._slots[slot].outputs[0]),)

    def learn(self, outputs: tuple[Tensor, ...], gradients: tuple[Tensor | None, ...], lr: float) -> None:
        """Teaches the predictor, if the stage has one, what the stage above found."""
        if self.options.predictor is not None and gradients[0] is not None:
            self.options.predictor.learn(outputs[0], gradients[0], lr)

    def _leaf(self, tensor: Tensor) -> Tensor:
        """A cut through the graph: the backward of this stage ends here."""
        leaf = tensor.detach()
        wanted = self.number > 0 and self.options.input_gradient
        return leaf.requires_grad_(wanted and (leaf.is_floating_point() or leaf.is_complex()))

    def backward(
        self,
        slot: int,
        gradients: Sequence[Tensor | None] | None,
        weights: Arena | None = None,
        lowest: bool = False,
    ) -> tuple[tuple[Tensor | None, ...], Gradients]:
        """(gradients of the inputs, gradients of the arena's views) for the gradients of the outputs (None: a loss).

        `weights`: what a slot with weights of its own reads; default: what its forward read. The inputs have no
        gradients where this stage is the `lowest` to go back to.
        """
        own = self._slots[slot]
        _fill(own, weights)
        if lowest:
            own.inputs = tuple(leaf.detach() for leaf in own.inputs)
        inputs = [leaf for leaf in own.inputs if leaf.requires_grad]
        wanted = [p for p in own.parameters if p.requires_grad]
        found = _gradients(own.outputs, [*inputs, *wanted], gradients, retain=False)
        result = self._by_input(own, found[: len(inputs)]), self._by_view(own, found[len(inputs) :])
        self._release(own)
        return result

    def input_gradient(
        self, slot: int, gradients: Sequence[Tensor | None] | None, weights: Arena | None = None
    ) -> tuple[Tensor | None, ...]:
        """The first half of a split backward (I). The second half uses its graph, and reads the same weights."""
        own = self._slots[slot]
        _fill(own, weights)
        own.gradients = None if gradients is None else tuple(gradients)
        inputs = [leaf for leaf in own.inputs if leaf.requires_grad]
        return self._by_input(own, _gradients(own.outputs, inputs, gradients, retain=True))

    def weight_gradient(self, slot: int) -> Gradients:
        """The second half of a split backward (W). Autograd walks the stage's inner gradients a second time."""
        own = self._slots[slot]
        wanted = [p for p in own.parameters if p.requires_grad]
        found = _gradients(own.outputs, wanted, own.gradients, retain=False)
        self._release(own)
        return self._by_view(own, found)

    def _release(self, own: _Slot) -> None:
        own.forget()
        if own.held is not None:
            self.arena.alias(own.module.named_parameters(remove_duplicate=False))
            own.held = None

    def _by_input(self, own: _Slot, found: Sequence[Tensor | None]) -> tuple[Tensor | None, ...]:
        rest = iter(found)
        return tuple(next(rest) if leaf.requires_grad else None for leaf in own.inputs)

    def _by_view(self, own: _Slot, found: Sequence[Tensor | None]) -> Gradients:
        rest = iter(found)
        return [next(rest) if p.requires_grad else None for p in own.parameters]

    def drop(self) -> None:
        """Forgets every microbatch in flight, after a failure."""
        for own in self._slots:
            self._release(own)


def _fill(own: _Slot, weights: Arena | None) -> None:
    if own.weights is not None and weights is not None:
        own.weights.copy_from(weights)


def _gradients(
    outputs: tuple[Tensor, ...], inputs: list[Any], gradients: Sequence[Tensor | None] | None, retain: bool
) -> tuple[Tensor | None, ...]:
    """autograd.grad, which for CPU tensors runs in the calling thread; outputs without a graph have no gradient."""
    seeds = gradients if gradients is not None else [None] * len(outputs)
    pairs = [
        (y, dy)
        for y, dy in zip(outputs, seeds, strict=True)
        if y.requires_grad and (dy is not None or gradients is None)
    ]
    if not pairs or not inputs:
        return (None,) * len(inputs)
    ys, dys = zip(*pairs, strict=True)
    return torch.autograd.grad(ys, inputs, dys, retain_graph=retain, allow_unused=True)

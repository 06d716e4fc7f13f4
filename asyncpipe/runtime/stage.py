"""The stage functions of the CPU back ends: forward, backward and its halves, by autograd, one module copy per slot.

Each (stage, slot) owns a copy of the stage's module whose parameters alias the arena (backward weights `latest`), or
a private copy that the forward fills (`same`). Several threads may so run forwards and backwards of one stage at
once; swapping the attributes of one shared module, as `functional_call` does, would mix their weights up.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from asyncpipe.errors import UserCodeError
from asyncpipe.runtime.arena import Arena

__all__ = ["Gradients", "Loss", "Stage"]

Loss = Callable[[Any, Any], Tensor]
Gradients = list[Tensor | None]
Value = Any  # a tensor, or a tuple of tensors


@dataclass
class _Slot:
    """One microbatch in flight: its module copy, and what autograd needs of its forward."""

    module: nn.Module
    parameters: list[nn.Parameter]
    stash: Arena | None
    inputs: tuple[Tensor, ...] = ()
    outputs: tuple[Tensor, ...] = ()
    gradients: tuple[Tensor | None, ...] | None = None


class Stage:
    """Parameters, buffers and slots of one stage. `module` is the model's own part and aliases the arena too."""

    def __init__(self, number: int, module: nn.Module, slots: int, stash: bool, loss: Loss | None) -> None:
        self.number = number
        self.module = module
        self.loss = loss
        self.arena = Arena.of(module.named_parameters(remove_duplicate=False))
        self.trainable = self.arena.trainable
        self._slots = [self._make_slot(stash) for _ in range(slots)]
        self.arena.alias(module.named_parameters(remove_duplicate=False))

    def _make_slot(self, stash: bool) -> _Slot:
        module = copy.deepcopy(self.module)
        _share_buffers(self.module, module)
        kept = self.arena.like() if stash else None
        (kept or self.arena).alias(module.named_parameters(remove_duplicate=False))
        named = dict(module.named_parameters(remove_duplicate=False))
        return _Slot(module, [named[name] for name in self.arena.names], kept)

    def forward(self, slot: int, value: Value, target: Value = None) -> Value:
        """The stage's output for the value of the stage before; with a loss, the loss (a scalar with its graph)."""
        own = self._slots[slot]
        if own.stash is not None:
            own.stash.copy_from(self.arena)
        own.inputs = tuple(self._leaf(tensor) for tensor in _tensors(value))
        with torch.enable_grad():
            result = own.module(own.inputs[0] if isinstance(value, Tensor) else own.inputs)
            if self.loss is not None:
                result = self.loss(result, target)
        own.outputs = _tensors(result)
        return result

    def _leaf(self, tensor: Tensor) -> Tensor:
        """A cut through the graph: the backward of this stage ends here."""
        leaf = tensor.detach()
        return leaf.requires_grad_(self.number > 0 and (leaf.is_floating_point() or leaf.is_complex()))

    def backward(
        self, slot: int, gradients: Sequence[Tensor | None] | None
    ) -> tuple[tuple[Tensor | None, ...], Gradients]:
        """(gradients of the inputs, gradients of the arena's views) for the gradients of the outputs (None: a loss)."""
        own = self._slots[slot]
        inputs = [leaf for leaf in own.inputs if leaf.requires_grad]
        wanted = [p for p in own.parameters if p.requires_grad]
        found = _gradients(own.outputs, [*inputs, *wanted], gradients, retain=False)
        result = self._by_input(own, found[: len(inputs)]), self._by_view(own, found[len(inputs) :])
        own.inputs, own.outputs = (), ()
        return result

    def input_gradient(self, slot: int, gradients: Sequence[Tensor | None] | None) -> tuple[Tensor | None, ...]:
        """The first half of a split backward (I). The graph is kept for the second half."""
        own = self._slots[slot]
        own.gradients = None if gradients is None else tuple(gradients)
        inputs = [leaf for leaf in own.inputs if leaf.requires_grad]
        return self._by_input(own, _gradients(own.outputs, inputs, gradients, retain=True))

    def weight_gradient(self, slot: int) -> Gradients:
        """The second half of a split backward (W). Autograd walks the stage's inner gradients a second time."""
        own = self._slots[slot]
        wanted = [p for p in own.parameters if p.requires_grad]
        found = _gradients(own.outputs, wanted, own.gradients, retain=False)
        own.inputs, own.outputs, own.gradients = (), (), None
        return self._by_view(own, found)

    def _by_input(self, own: _Slot, found: Sequence[Tensor | None]) -> tuple[Tensor | None, ...]:
        rest = iter(found)
        return tuple(next(rest) if leaf.requires_grad else None for leaf in own.inputs)

    def _by_view(self, own: _Slot, found: Sequence[Tensor | None]) -> Gradients:
        rest = iter(found)
        return [next(rest) if p.requires_grad else None for p in own.parameters]

    def drop(self) -> None:
        """Forgets every microbatch in flight, after a failure."""
        for own in self._slots:
            own.inputs, own.outputs, own.gradients = (), (), None


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


def _tensors(value: Value) -> tuple[Tensor, ...]:
    if isinstance(value, Tensor):
        return (value,)
    if isinstance(value, tuple) and value and all(isinstance(part, Tensor) for part in value):
        return value
    raise UserCodeError(
        f"expected a tensor or a tuple of tensors between stages, found {type(value).__name__}",
        "let the module before the cut return tensors, or cut the model elsewhere",
    )


def _share_buffers(source: nn.Module, target: nn.Module) -> None:
    """Running statistics belong to the stage, not to a slot: every copy updates the same tensors."""
    for own, other in zip(source.modules(), target.modules(), strict=True):
        for name, buffer in own.named_buffers(recurse=False):
            setattr(other, name, buffer)

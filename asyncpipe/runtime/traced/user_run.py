"""Runs of the user's code while it is traced, on flat arguments."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from asyncpipe.runtime.autocast import autocasting
from asyncpipe.runtime.auxiliary import WithHead
from asyncpipe.runtime.losses import require_scalar
from asyncpipe.runtime.stage_functions import tensors_of
from asyncpipe.runtime.traced.call import Call
from asyncpipe.runtime.traced.recurrent import WholeRecurrentLayers
from asyncpipe.runtime.traced.stage_code import StageCode, refuse_new_buffers

__all__ = ["Ran", "UserRun"]


@dataclass
class Ran:
    """What one run of the user's code showed that no graph shows."""

    results: list[Tensor] = field(default_factory=list)
    gives_tuple: bool = False
    starts: list[Tensor] = field(default_factory=list)
    """Where the backward begins: the loss, or the results that have gradients."""
    seeded: tuple[bool, ...] = ()
    found: list[bool] = field(default_factory=list)
    """Which of the wanted gradients are there."""


@dataclass
class UserRun:
    """One run of the user's code on flat arguments: inputs, targets, parameters, buffers, seeds."""

    code: StageCode
    call: Call
    wanted: tuple[bool, ...]
    ran: Ran = field(default_factory=Ran)
    leaves: list[Tensor] = field(default_factory=list)
    buffers: list[Tensor] = field(default_factory=list)

    @property
    def counts(self) -> tuple[int, ...]:
        return len(self.call.inputs), len(self.call.target_tensors), len(self.code.parameters), len(self.code.buffers)

    def split(self, arguments: Sequence[Any]) -> list[list[Any]]:
        parts, start = [], 0
        for count in self.counts:
            parts.append(list(arguments[start : start + count]))
            start += count
        return [*parts, list(arguments[start:])]

    def forward(self, *arguments: Tensor) -> Ran:
        inputs, targets, parameters, buffers, _ = self.split(arguments)
        inputs = _leaves(inputs, self.wanted)
        parameters = _leaves(parameters, self.code.trainable)
        self.leaves = [leaf for leaf in (*inputs, *parameters) if leaf.requires_grad]
        with torch.enable_grad():
            self.ran = self._run(inputs, self.call.target_of(targets), parameters, buffers)
        return self.ran

    def _run(self, inputs: list[Tensor], target: Any, parameters: list[Tensor], buffers: list[Tensor]) -> Ran:
        code = self.code
        state = _named(code.parameters, parameters) | _named(code.buffers, buffers)
        with WholeRecurrentLayers(), autocasting(inputs[0].device.type, code.autocast):
            # The module may write into its input, and autograd guards leaves.
            given = tuple(tensor.clone() for tensor in inputs)
            value = given if self.call.takes_tuple else given[0]
            result = torch.func.functional_call(code.module, state, (value,), tie_weights=False)
            result, start = result if isinstance(code.module, WithHead) else (result, result)
            loss = None if code.loss is None else require_scalar(code.loss(start, target))
        # functional_call leaves there what the module made of them.
        self.buffers = [state[names[0]] for names in code.buffers]
        refuse_new_buffers(code)
        if loss is not None and not isinstance(code.module, WithHead):
            result = loss
        results = list(tensors_of(result))
        seeded = tuple(loss is None and y.requires_grad for y in results)
        starts = [y for y, seed in zip(results, seeded, strict=True) if seed] if loss is None else [loss]
        return Ran(results, not isinstance(result, Tensor), starts, seeded)

    def joint(self, *arguments: Tensor) -> list[Tensor]:
        ran = self.forward(*arguments)
        starts = [y for y in ran.starts if y.requires_grad]
        seeds = self.split(arguments)[-1] or [_one(loss) for loss in starts]
        found: Sequence[Tensor | None] = [None] * len(self.leaves)
        if starts and self.leaves:
            found = torch.autograd.grad(starts, self.leaves, seeds, allow_unused=True)
        ran.found = [gradient is not None for gradient in found]
        return [
            *(y.detach() for y in ran.results),
            *(buffer.detach() for buffer in self.buffers),
            *(gradient for gradient in found if gradient is not None),
        ]


def _one(loss: Tensor) -> Tensor | None:
    """As autograd begins at a scalar, but by an operation that needs no tensor."""
    return torch.ones(loss.shape, dtype=loss.dtype, device=loss.device) if loss.numel() == 1 else None


def _leaves(tensors: Sequence[Tensor], wanted: Sequence[bool]) -> list[Tensor]:
    return [tensor.detach().requires_grad_(want) for tensor, want in zip(tensors, wanted, strict=True)]


def _named(names: tuple[tuple[str, ...], ...], tensors: list[Tensor]) -> dict[str, Tensor]:
    return {name: tensor for all_names, tensor in zip(names, tensors, strict=True) for name in all_names}

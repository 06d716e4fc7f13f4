"""What a back end asks of a stage: by the autograd engine (Stage) or by traced graphs (TracedStage)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

from torch import Tensor, nn

from asyncpipe.errors import UserCodeError
from asyncpipe.runtime.arena import Arena

__all__ = ["Gradients", "StageFunctions", "Value", "tensors_of"]

Gradients = list[Tensor | None]
Value = Any  # a tensor, or a tuple of tensors


class StageFunctions(Protocol):
    """One stage with a slot for each microbatch in flight; `module` aliases the live weights, which are `arena`'s."""

    number: int
    module: nn.Module
    arena: Arena
    trainable: list[bool]

    def forward(self, slot: int, value: Value, target: Value = None, weights: Arena | None = None) -> Value:
        """The output for the value of the stage before; of the last stage, the loss. `weights`: default live."""

    def forward_again(self, slot: int, weights: Arena | None, outputs: tuple[Tensor, ...] = ()) -> None:
        """The forward once more, for the backward; `outputs`: what an inverted stage gets back."""

    def inputs(self, slot: int) -> tuple[Tensor, ...]:
        """What the stage read, between its forward and its backward."""

    def backward(
        self,
        slot: int,
        gradients: Sequence[Tensor | None] | None,
        weights: Arena | None = None,
        lowest: bool = False,
    ) -> tuple[tuple[Tensor | None, ...], Gradients]:
        """(gradients of the inputs, gradients of the arena's views) for those of the outputs (None: a loss)."""

    def input_gradient(
        self, slot: int, gradients: Sequence[Tensor | None] | None, weights: Arena | None = None
    ) -> tuple[Tensor | None, ...]:
        """The first half of a split backward (I)."""

    def weight_gradient(self, slot: int) -> Gradients:
        """The second half of a split backward (W), with the weights that I read."""

    def predicted_gradients(self, slot: int) -> tuple[Tensor | None, ...]:
        """The gradients of the outputs as the stage's predictor has them."""

    def learn(self, outputs: tuple[Tensor, ...], gradients: tuple[Tensor | None, ...], lr: float) -> None:
        """Teaches the predictor, if there is one, what the stage above found."""

    def drop(self) -> None:
        """Forgets every microbatch in flight."""


def tensors_of(value: Value) -> tuple[Tensor, ...]:
    """The tensors between two stages; UserCodeError for anything else."""
    if isinstance(value, Tensor):
        return (value,)
    if isinstance(value, tuple) and value and all(isinstance(part, Tensor) for part in value):
        return value
    raise UserCodeError(
        f"expected a tensor or a tuple of tensors between stages, found {type(value).__name__}",
        "let the module before the cut return tensors, or cut the model elsewhere",
    )

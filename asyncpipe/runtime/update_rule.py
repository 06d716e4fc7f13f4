"""What the optimizers have in common: one update rule with one state over one arena."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Literal, Protocol, runtime_checkable

import torch
from torch import Tensor

from asyncpipe.errors import CheckpointError

__all__ = ["Arithmetic", "CountingRule", "ParameterState", "Precision", "UpdateRule", "require_fit"]

Arithmetic = Literal["default", "fused"]
"""`default` equals torch.optim's loop bit for bit; `fused` (one pass over memory) differs in last bits."""

Precision = Literal["plain", "master", "stochastic"]
"""Of half-precision weights: rounded after each update, rounded copies of float32, or rounded at random."""

ParameterState = dict[str, Tensor | float]
"""What is kept for one parameter, under torch.optim's names; empty before its first update."""


class UpdateRule(Protocol):
    """Several rules over one arena are independent: each owns its state, all change the same parameters."""

    concurrent: bool
    """Whether two threads may apply updates at once; each element then keeps the last write."""
    repeats: bool
    """Whether a CUDA graph may repeat an update: all that changes from one to the next lies on the device."""
    generators: Sequence[torch.Generator]
    """Those that updates draw random numbers from."""

    @property
    def state_bytes(self) -> int:
        """Bytes of the tensors that the rule keeps now."""

    def apply(self, gradients: Sequence[Tensor | None], lr: float) -> None:
        """Change the arena's views in place; a view without a gradient stays, and so does its state."""

    def parameter_states(self) -> list[ParameterState]:
        """A copy of what is kept for each view."""

    def load_parameter_states(self, states: Sequence[ParameterState]) -> None:
        """Continue from what `parameter_states` returned; CheckpointError where it does not fit."""


@runtime_checkable
class CountingRule(Protocol):
    """An update rule that counts updates and their staleness on the device by itself."""

    def apply_counted(self, gradients: Sequence[Tensor | None], lr: float, reads: Tensor) -> None:
        """As `apply`; reads: int64 (microbatches), the versions that the forwards of this update found."""


def require_fit(
    name: str, state: ParameterState, expected: Mapping[str, tuple[int, ...]], optional: Collection[str] = ()
) -> None:
    """CheckpointError unless the state is empty, or has the expected entries with their shapes."""
    found = {key: tuple(torch.as_tensor(value).shape) for key, value in state.items()}
    needed = {key: shape for key, shape in expected.items() if key in found or key not in optional}
    if found and found != needed:
        raise CheckpointError(
            f"optimizer state of {name}: expected entries of shapes {dict(expected)}, found {found}",
            "resume with the optimizer and the options that wrote the checkpoint",
        )

"""What a stage is called with."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from torch import Tensor

from asyncpipe.runtime.stage_functions import tensors_of
from asyncpipe.runtime.traced.torch_tracing import flatten, unflatten, without_data

__all__ = ["Call"]


@dataclass(frozen=True)
class Call:
    """How a stage is called: the tensors from the stage before, and the leaves of its target.

    The tensors of a target become inputs of the graph; numbers and text become part of it.
    """

    inputs: tuple[Tensor, ...]
    takes_tuple: bool
    target: tuple[Any, ...]
    target_structure: Any

    @classmethod
    def of(cls, value: Any, target: Any) -> Call:
        leaves, structure = flatten(target)
        return cls(tensors_of(value), not isinstance(value, Tensor), tuple(leaves), structure)

    @property
    def target_tensors(self) -> list[Tensor]:
        return [leaf for leaf in self.target if isinstance(leaf, Tensor)]

    def target_of(self, tensors: Sequence[Tensor]) -> Any:
        """The target with these tensors in place of its own."""
        rest = iter(tensors)
        leaves = [next(rest) if isinstance(leaf, Tensor) else leaf for leaf in self.target]
        return unflatten(leaves, self.target_structure)

    def without_data(self) -> Call:
        """The same call with tensors that have shapes, strides, types and devices only."""
        leaves = [without_data(leaf, leaf.device) if isinstance(leaf, Tensor) else leaf for leaf in self.target]
        inputs = [without_data(tensor, tensor.device) for tensor in self.inputs]
        return replace(self, inputs=tuple(inputs), target=tuple(leaves))

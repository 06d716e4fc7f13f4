"""What a trace holds for: the shapes, strides and types of a stage's inputs, and all of its target but its numbers."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import Any

from torch import Tensor

from asyncpipe.errors import UsageError
from asyncpipe.runtime.traced.call import Call

__all__ = ["describe", "signature"]


def signature(call: Call) -> Hashable:
    """Equal where one trace serves both; UsageError for a target with parts that cannot be compared."""
    inputs, target = tuple(map(_kind, call.inputs)), tuple(map(_kind_of_leaf, call.target))
    key = (call.takes_tuple, inputs, target, repr(call.target_structure))
    try:
        hash(key)
    except TypeError as error:
        raise UsageError(
            f"the target has a part that cannot be compared with those of other microbatches: {error}",
            "make targets of tensors, numbers and text, in tuples, lists and dictionaries",
        ) from None
    return key


def describe(inputs: Sequence[Tensor]) -> str:
    return ", ".join(f"{tuple(x.shape)} of {str(x.dtype).removeprefix('torch.')}" for x in inputs)


def _kind(tensor: Tensor) -> Hashable:
    return tensor.shape, tensor.stride(), tensor.dtype, tensor.device


def _kind_of_leaf(leaf: Any) -> Hashable:
    # 1, 1.0 and True are equal, but not the same to the user's code.
    return _kind(leaf) if isinstance(leaf, Tensor) else (type(leaf), leaf)

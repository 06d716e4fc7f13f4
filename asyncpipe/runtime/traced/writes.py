"""A forward that writes into a parameter: its trace would compute with the new value, and lose the write."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from asyncpipe.runtime.traced.torch_tracing import operation_arguments

__all__ = ["NoWrites", "ParameterWritten"]


class ParameterWritten(RuntimeError):
    """Raised within the user's line that writes."""


class NoWrites(TorchDispatchMode):
    """While it is entered, an operation that writes into the memory of one of `tensors`, named so, raises."""

    def __init__(self, names: Sequence[str], tensors: Sequence[Tensor]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._places = [(name, *_place(tensor)) for name, tensor in zip(names, tensors, strict=True)]

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        for tensor in _written(func, args, kwargs or {}):
            for name in self._names_at(*_place(tensor)):
                raise ParameterWritten(f"the forward writes into parameter {name}, which only updates may change")
        return func(*args, **(kwargs or {}))

    def _names_at(self, memory: int, begin: int, end: int) -> list[str]:
        """Parameters lie side by side in an arena, which is one memory."""
        return [name for name, own, first, last in self._places if own == memory and first < end and begin < last]


def _written(func: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> list[Tensor]:
    named = [(argument, *args[i : i + 1]) for i, argument in enumerate(operation_arguments(func))]
    values = [(argument, rest[0] if rest else kwargs.get(argument.name)) for argument, *rest in named]
    written = [value for argument, value in values if argument.alias_info is not None and argument.alias_info.is_write]
    return [tensor for value in written for tensor in _tensors(value)]


def _tensors(value: Any) -> list[Tensor]:
    """A tensor, or those of a list."""
    return [one for one in (value if isinstance(value, list | tuple) else [value]) if isinstance(one, Tensor)]


def _place(tensor: Tensor) -> tuple[int, int, int]:
    """(memory, first element, the one after the last) of a tensor without gaps."""
    address: int = tensor.untyped_storage()._cdata
    begin = int(tensor.storage_offset())
    return address, begin, begin + int(tensor.numel())

"""What one torch operation reads, writes and makes, and how to run it again into the same memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from typing import Any

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map_only

from asyncpipe.runtime.cuda.recording.memory import storage_key

__all__ = ["Operation", "Watch", "address_of"]

Handler = Callable[["Operation"], Any]


@dataclass(frozen=True)
class Operation:
    """A call of an aten operator."""

    function: Any
    args: tuple[Any, ...]
    kwargs: dict[str, Any]

    @property
    def name(self) -> str:
        return str(self.function).removesuffix(".default")

    @cached_property
    def inputs(self) -> list[Tensor]:
        return list(tensors_of((*self.args, *self.kwargs.values())))

    @property
    def read(self) -> list[Tensor]:
        """The arguments whose contents matter."""
        return [] if self.function in _SHAPES_ONLY else self.inputs

    @cached_property
    def mutated(self) -> list[Tensor]:
        """The arguments that the operator writes to."""
        written = _written(self.function)
        given = [self.args[at] if at < len(self.args) else self.kwargs.get(name) for at, name in written]
        return list(tensors_of(given))

    @property
    def generator(self) -> int | None:
        """The address of the one that it draws from, if it is not torch's own."""
        given = (*self.args, *self.kwargs.values())
        return next((address_of(value) for value in given if isinstance(value, torch.Generator)), None)

    @property
    def reads_on_host(self) -> bool:
        """Whether the host waits for the result, such as `item`."""
        tags = self.function.tags
        return torch.Tag.data_dependent_output in tags or torch.Tag.dynamic_output_shape in tags

    def __call__(self) -> Any:
        return self.function(*self.args, **self.kwargs)

    def without_identity(self) -> Operation:
        """The same on tensors of our own over the same memory: the program's may be dropped."""
        args, kwargs = tree_map_only(Tensor, _alias, (self.args, self.kwargs))
        return Operation(self.function, args, kwargs)

    @property
    def is_view(self) -> bool:
        """Whether the results are nothing but other looks at the arguments."""
        returns = self.function._schema.returns
        return bool(returns) and all(r.alias_info is not None and not r.alias_info.is_write for r in returns)

    def shapes(self) -> Any:
        """The result as a capture has it: views of arguments, arguments written to, and memory that holds nothing."""
        if self.is_view:
            return self()
        originals: dict[int, Tensor] = {}

        def fake(tensor: Tensor) -> Tensor:
            made = _FAKES.from_tensor(tensor)
            originals[id(made)] = tensor
            return made

        args, kwargs = tree_map_only(Tensor, fake, (self.args, self.kwargs))
        with _FAKES:
            result = self.function(*args, **kwargs)
        return tree_map_only(Tensor, lambda made: _original(originals, made, self.device), result)

    @property
    def device(self) -> torch.device:
        return next((tensor.device for tensor in self.inputs), torch.device("cpu"))

    def fresh(self, result: Any) -> Iterator[Tensor]:
        """The outputs with memory of their own."""
        known = {storage_key(tensor) for tensor in self.inputs}
        return (tensor for tensor in tensors_of(result) if storage_key(tensor) not in known)


_ATEN = torch.ops.aten
_SHAPES_ONLY = {
    *(_ATEN.empty_like.default, _ATEN.zeros_like.default, _ATEN.ones_like.default, _ATEN.full_like.default),
    *(_ATEN.new_empty.default, _ATEN.new_empty_strided.default, _ATEN.new_zeros.default, _ATEN.new_full.default),
}
_FAKES = FakeTensorMode(allow_non_fake_inputs=True)


def tensors_of(value: Any) -> Iterator[Tensor]:
    """Those of an operator's arguments or results; they nest in lists only, so torch's pytree is not needed."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, list | tuple):
        for item in value:
            yield from tensors_of(item)


@cache
def _written(function: Any) -> list[tuple[int, str]]:
    """Positions and names of the arguments that an operator writes to."""
    arguments = enumerate(function._schema.arguments)
    return [(at, a.name) for at, a in arguments if a.alias_info is not None and a.alias_info.is_write]


def _empty(like: Tensor, device: torch.device) -> Tensor:
    """NaN, or zero, where nothing was computed yet."""
    made = torch.empty_strided(like.shape, like.stride(), dtype=like.dtype, device=device)
    return made.fill_(float("nan") if made.is_floating_point() else 0)


def _original(originals: dict[int, Tensor], made: Tensor, device: torch.device) -> Tensor:
    found = originals.get(id(made))
    return _empty(made, device) if found is None else found


def _alias(tensor: Tensor) -> Tensor:
    return tensor.detach()


def address_of(generator: torch.Generator) -> int:
    """Torch makes another Python object for each call."""
    address: int = generator._cdata  # type: ignore[attr-defined]
    return address


def rerun_into(operation: Operation, outputs: Sequence[Tensor]) -> None:
    """Runs a recorded operation; its fresh outputs go to the memory that they had when it was captured."""
    result = operation()
    for target, found in zip(outputs, operation.fresh(result), strict=True):
        target.copy_(found)


class Watch(TorchDispatchMode):
    """Hands every operation to `handler`, whose result it is."""

    def __init__(self, handler: Handler) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._handler = handler

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return self._handler(Operation(func, tuple(args), kwargs or {}))

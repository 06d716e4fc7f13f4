"""What one torch operation reads, writes and makes, and how to run it again into the same memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map_only

from asyncpipe.runtime.cuda.recording.memory import storage_key

__all__ = ["Operation", "Watch"]

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

    @property
    def inputs(self) -> list[Tensor]:
        return [leaf for leaf in tree_leaves((self.args, self.kwargs)) if isinstance(leaf, Tensor)]

    @property
    def mutated(self) -> list[Tensor]:
        """The arguments that the operator writes to."""
        arguments = self.function._schema.arguments
        names = [a.name for a in arguments if a.alias_info is not None and a.alias_info.is_write]
        given = dict(zip((a.name for a in arguments), self.args, strict=False)) | self.kwargs
        return [leaf for name in names for leaf in tree_leaves(given.get(name)) if isinstance(leaf, Tensor)]

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
        return (leaf for leaf in tree_leaves(result) if isinstance(leaf, Tensor) and storage_key(leaf) not in known)


_FAKES = FakeTensorMode(allow_non_fake_inputs=True)


def _empty(like: Tensor, device: torch.device) -> Tensor:
    """NaN, or zero, where nothing was computed yet."""
    made = torch.empty_strided(like.shape, like.stride(), dtype=like.dtype, device=device)
    return made.fill_(float("nan") if made.is_floating_point() else 0)


def _original(originals: dict[int, Tensor], made: Tensor, device: torch.device) -> Tensor:
    found = originals.get(id(made))
    return _empty(made, device) if found is None else found


def _alias(tensor: Tensor) -> Tensor:
    return tensor.detach()


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

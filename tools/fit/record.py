"""Every operation of one forward, with what it reads, makes and overwrites: the facts that the checks go by."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from asyncpipe.errors import InternalError
from asyncpipe.runtime.torch_private import version_counter
from asyncpipe.runtime.traced.torch_tracing import flatten
from asyncpipe.tools.fit.places import Place, Places

__all__ = ["Key", "Operation", "Recorder", "Saved", "key_of", "keys_of", "tensors_in"]

Key = int
"""A storage, by its address: all that a recorder has seen lives as long as the recorder."""


@dataclass(frozen=True)
class Operation:
    """`makes`: new storages; `overwrites`: those that it writes into; `reads`: all others, and what it overwrites."""

    name: str
    layer: int
    place: Place
    reads: frozenset[Key]
    makes: frozenset[Key]
    overwrites: frozenset[Key]
    is_view: bool
    draws: bool
    reads_values: bool
    """The host waits for a value, or a shape depends on one."""


@dataclass(frozen=True)
class Saved:
    """A tensor that autograd keeps for the backward, from the operation `number` on, as of its `version`."""

    layer: int
    key: Key
    number: int
    tensor: Tensor = field(repr=False)
    version: int

    @property
    def is_overwritten(self) -> bool:
        """Whether autograd would refuse it now."""
        return version_counter(self.tensor) != self.version


@dataclass
class Recorder(TorchDispatchMode):
    """Entered around forwards; `layer` is the one that runs. Sees what torch dispatches, below autograd."""

    places: Places
    layer: int = 0
    operations: list[Operation] = field(default_factory=list)
    saved: list[Saved] = field(default_factory=list)
    bytes: dict[Key, int] = field(default_factory=dict)
    _alive: list[Tensor] = field(default_factory=list)

    def __post_init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        result = func(*args, **kwargs)
        given, made = self.see(tensors_in((args, kwargs))), self.see(tensors_in(result))
        self.operations.append(
            Operation(
                name=func._schema.name.removeprefix("aten::"),
                layer=self.layer,
                place=self.places.here(),
                reads=given,
                makes=made - given,
                overwrites=keys_of(_overwritten(func, args, kwargs)),
                is_view=_is_view(func),
                draws=_draws(func, args, kwargs),
                reads_values=_reads_values(func, args),
            )
        )
        return result

    def see(self, tensors: Iterable[Tensor]) -> frozenset[Key]:
        """Keeps the tensors alive, so that no other gets their address."""
        found = [tensor for tensor in tensors if key_of(tensor)]
        for tensor in found:
            if key_of(tensor) not in self.bytes:
                self.bytes[key_of(tensor)] = tensor.untyped_storage().nbytes()
                self._alive.append(tensor)
        return keys_of(found)

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Records operations, and what autograd saves."""
        with self, torch.autograd.graph.saved_tensors_hooks(self._save, _no_backward):
            yield

    def _save(self, tensor: Tensor) -> None:
        for key in self.see([tensor]):
            self.saved.append(Saved(self.layer, key, len(self.operations), tensor, version_counter(tensor)))

    def saved_by(self, layers: Iterable[int]) -> set[Key]:
        chosen = set(layers)
        return {saved.key for saved in self.saved if saved.layer in chosen}


def key_of(tensor: Tensor) -> Key:
    """0 for tensors without memory."""
    return 0 if tensor.layout != torch.strided else tensor.untyped_storage().data_ptr()


def keys_of(tensors: Iterable[Tensor]) -> frozenset[Key]:
    return frozenset(key_of(tensor) for tensor in tensors) - {0}


def tensors_in(value: Any) -> Sequence[Tensor]:
    """Those in nested tuples, lists and dicts."""
    return [leaf for leaf in flatten(value)[0] if isinstance(leaf, Tensor)]


def _no_backward(_: object) -> Tensor:
    raise InternalError("a recorded forward has no backward")


def _overwritten(func: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> list[Tensor]:
    schema = func._schema.arguments
    written = [
        args[i] if i < len(args) else kwargs.get(argument.name)
        for i, argument in enumerate(schema)
        if argument.alias_info is not None and argument.alias_info.is_write
    ]
    return list(tensors_in(written))


def _is_view(func: Any) -> bool:
    returns = func._schema.returns
    aliases = [result.alias_info is not None and not result.alias_info.is_write for result in returns]
    return bool(aliases) and all(aliases)


def _draws(func: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> bool:
    """Attention has the tag too, and draws only where it drops something out."""
    if torch.Tag.nondeterministic_seeded not in func.tags:
        return False
    names = [argument.name for argument in func._schema.arguments]
    if "dropout_p" not in names:
        return True
    position = names.index("dropout_p")
    return bool(args[position] if position < len(args) else kwargs.get("dropout_p", 0.0))


def _reads_values(func: Any, args: tuple[Any, ...]) -> bool:
    """`index` has the tag for masks alone: numbers as indices say the shape."""
    if func is torch.ops.aten.index.Tensor:
        return any(index.dtype in (torch.bool, torch.uint8) for index in tensors_in(args[1]))
    return not _READING.isdisjoint(func.tags)


_READING = {torch.Tag.data_dependent_output, torch.Tag.dynamic_output_shape}

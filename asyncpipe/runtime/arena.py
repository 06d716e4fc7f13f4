"""The parameters of one stage in one flat storage per dtype, and everything else of the same layout."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from asyncpipe.errors import InternalError, UsageError

__all__ = ["Arena", "Layout", "Place"]

CPU_ALIGNMENT = 64
CUDA_ALIGNMENT = 512
"""Bytes: torch's allocators start tensors there. Libraries choose kernels by alignment: bits depend on it."""


@dataclass(frozen=True)
class Place:
    """Where one parameter lies: `offset` in elements from the start of its dtype's storage."""

    name: str
    dtype: torch.dtype
    offset: int
    shape: tuple[int, ...]
    stride: tuple[int, ...]
    trainable: bool


@dataclass(frozen=True)
class Layout:
    """Places in the order of the parameters; `index` knows every name, those of tied parameters too."""

    places: tuple[Place, ...]
    index: Mapping[str, int]
    lengths: Mapping[torch.dtype, int]
    device: torch.device


class Arena:
    """Tensors of one layout over one flat storage per dtype.

    `views` are plain tensors with version counters of their own: each parameter that aliases the storage sees
    a change through them, and so does a backward whose forward ran before, without an error from autograd.
    """

    def __init__(self, layout: Layout, fill: float = 0.0) -> None:
        self.layout = layout
        self.flat: dict[torch.dtype, Tensor] = {
            dtype: torch.full((length,), fill, dtype=dtype, device=layout.device)
            for dtype, length in layout.lengths.items()
        }
        self.views: list[Tensor] = [_view(self.flat[place.dtype], place) for place in layout.places]

    @classmethod
    def of(cls, parameters: Iterable[tuple[str, Tensor]]) -> Arena:
        """An arena with a copy of these values, e.g. of `module.named_parameters(remove_duplicate=False)`."""
        named = list(parameters)
        arena = cls(_lay_out(named))
        for name, parameter in named:
            arena.views[arena.layout.index[name]].copy_(parameter.detach())
        return arena

    @classmethod
    def over(cls, layout: Layout, flat: Mapping[torch.dtype, Tensor]) -> Arena:
        """An arena over storages that exist already."""
        arena = cls.__new__(cls)
        arena.layout, arena.flat = layout, dict(flat)
        arena.views = [_view(arena.flat[place.dtype], place) for place in layout.places]
        return arena

    @property
    def names(self) -> list[str]:
        """One name per view: the first, where tied parameters have several."""
        return [place.name for place in self.layout.places]

    @property
    def trainable(self) -> list[bool]:
        """Per view whether its parameter required a gradient."""
        return [place.trainable for place in self.layout.places]

    @property
    def bytes(self) -> int:
        """The size of the storage in bytes, padding included."""
        return sum(flat.nbytes for flat in self.flat.values())

    def alias(self, parameters: Iterable[tuple[str, Tensor]]) -> None:
        """Let the parameters of a copy of the module share this storage; they stay the same objects."""
        named = list(parameters)
        if {name for name, _ in named} != self.layout.index.keys():
            raise InternalError(f"expected parameters {list(self.layout.index)}, found {list(dict(named))}")
        for name, parameter in named:
            view = self.views[self.layout.index[name]]
            if (parameter.shape, parameter.dtype) != (view.shape, view.dtype):
                raise InternalError(f"{name} is {_kind(parameter)}, the arena holds {_kind(view)}")
            parameter.data = view

    def like(self, fill: float = 0.0) -> Arena:
        """A new arena of the same layout: for optimizer state, a stash, or accumulated gradients."""
        return Arena(self.layout, fill)

    def clone(self) -> Arena:
        """A new arena with the same values."""
        copy = self.like()
        copy.copy_from(self)
        return copy

    def copy_from(self, other: Arena) -> None:
        """Copy all values from an arena of the same layout, on whatever device, with one copy per dtype."""
        if (other.layout.places, other.layout.lengths) != (self.layout.places, self.layout.lengths):
            raise InternalError("cannot copy between arenas of different layouts")
        for dtype, flat in self.flat.items():
            flat.copy_(other.flat[dtype])


def _lay_out(named: list[tuple[str, Tensor]]) -> Layout:
    """Give each parameter a place; one that is listed twice gets one place under both names."""
    device = _common_device(named)
    places: list[Place] = []
    index: dict[str, int] = {}
    seen: dict[int, int] = {}
    lengths: dict[torch.dtype, int] = {}
    for name, parameter in named:
        if id(parameter) not in seen:
            seen[id(parameter)] = len(places)
            places.append(_place(name, parameter, lengths.get(parameter.dtype, 0)))
            lengths[parameter.dtype] = _aligned_end(places[-1], parameter, device)
        index[name] = seen[id(parameter)]
    _refuse_shared_memory(named)
    return Layout(tuple(places), index, lengths, device)


def _place(name: str, parameter: Tensor, offset: int) -> Place:
    # Memory formats such as channels_last stay; a parameter with gaps or overlaps becomes contiguous.
    stride = torch.empty_like(parameter, device="meta").stride()
    return Place(name, parameter.dtype, offset, tuple(parameter.shape), stride, parameter.requires_grad)


def _aligned_end(place: Place, parameter: Tensor, device: torch.device) -> int:
    alignment = CPU_ALIGNMENT if device.type == "cpu" else CUDA_ALIGNMENT
    unit = alignment // parameter.element_size()
    return -(-(place.offset + parameter.numel()) // unit) * unit


def _view(flat: Tensor, place: Place) -> Tensor:
    # `.data`: views would share one version counter, and a stash of one parameter would count for all.
    return flat.as_strided(place.shape, place.stride, place.offset).data


def _common_device(named: list[tuple[str, Tensor]]) -> torch.device:
    devices = {parameter.device for _, parameter in named}
    if len(devices) > 1:
        found = ", ".join(sorted(map(str, devices)))
        raise UsageError(
            f"the parameters of one stage must be on one device, found {found}",
            "move the model to one device; the schedule's `place` distributes the stages",
        )
    return devices.pop() if devices else torch.device("cpu")


def _refuse_shared_memory(named: list[tuple[str, Tensor]]) -> None:
    """Different parameters on the same memory would come apart in the arena: refuse them."""
    owners: dict[int, tuple[str, Tensor]] = {}
    for name, parameter in named:
        if parameter.numel() == 0 or parameter.data_ptr() == 0:
            continue
        owner, other = owners.setdefault(parameter.data_ptr(), (name, parameter))
        if other is not parameter:
            raise UsageError(
                f"parameters {owner!r} and {name!r} are two objects on the same memory",
                "tie them by assigning the same nn.Parameter object to both modules",
            )


def _kind(tensor: Tensor) -> str:
    return f"{tuple(tensor.shape)} of {tensor.dtype}"

"""Buffers of a stage, such as running statistics: one set, which every slot's copy of the module shares."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import nn

__all__ = ["SharedBuffers", "buffer_places"]

Place = tuple[nn.Module, str]


def buffer_places(module: nn.Module) -> list[Place]:
    """(owner, name) of every buffer, None or not; in the same order for copies of a module."""
    return [(owner, name) for owner in module.modules() for name in owner._buffers]


class SharedBuffers:
    """Gives copies of a module its buffers, also those that a forward replaces instead of writing into them."""

    def __init__(self, module: nn.Module) -> None:
        self._copies = [buffer_places(module)]
        self._shared: list[Any] = [owner._buffers[name] for owner, name in self._copies[0]]

    def join(self, copy: nn.Module) -> Sequence[Place]:
        """The places of one more copy, which the other methods want."""
        places = buffer_places(copy)
        self._copies.append(places)
        self.give(places)
        return places

    def give(self, places: Sequence[Place]) -> None:
        """A copy has the shared buffers again."""
        for (owner, name), buffer in zip(places, self._shared, strict=True):
            setattr(owner, name, buffer)

    def take(self, places: Sequence[Place]) -> None:
        """After a forward of one copy: what it has assigned is everybody's, as in a plain training loop."""
        for number, (owner, name) in enumerate(places):
            buffer = owner._buffers[name]
            if buffer is not self._shared[number]:
                self._shared[number] = buffer
                for copy in self._copies:
                    setattr(*copy[number], buffer)

"""How many bytes of each device are given out, and the end of them."""

from __future__ import annotations

import weakref
from collections import Counter

import torch

__all__ = ["Usage"]

_Place = tuple[int, int]
"""(history, device)."""


class Usage:
    """A history is what runs eagerly (`eager`), or the memory of graphs, which keep the most that they ever held."""

    def __init__(self) -> None:
        self.eager: object = None
        self._blocks: dict[int, tuple[_Place, int]] = {}
        self._now: Counter[_Place] = Counter()
        self._most: Counter[_Place] = Counter()

    def of(self, device: int) -> int:
        """Bytes that are taken now."""
        return sum(self._held(place) for place in self._most if place[1] == device)

    def _held(self, place: _Place) -> int:
        return self._now[place] if place[0] == id(self.eager) else self._most[place]

    def take(self, history: object, device: int, key: int, size: int, limit: int) -> None:
        """A new block. torch.OutOfMemoryError where the device has no more than `limit`."""
        if key in self._blocks:
            return
        place = id(history), device
        used = self.of(device)
        if used + max(0, self._now[place] + size - self._held(place)) > limit:
            raise torch.OutOfMemoryError(
                f"CUDA out of memory. Tried to allocate {size / 2**20:.2f} MiB. GPU {device} has a total capacity of"
                f" {limit / 2**20:.2f} MiB of which {(limit - used) / 2**20:.2f} MiB is free."
            )
        if place not in self._most and history is not self.eager:
            weakref.finalize(history, self._end, place)
        self._blocks[key] = place, size
        self._now[place] += size
        self._most[place] = max(self._most[place], self._now[place])

    def _end(self, place: _Place) -> None:
        """The graphs are gone."""
        del self._now[place], self._most[place]

    def give(self, key: int) -> None:
        """Nobody refers to the block any more."""
        if key in self._blocks:
            place, size = self._blocks.pop(key)
            self._now[place] -= size

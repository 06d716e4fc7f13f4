"""Who may drop which tensor when.

The caching allocator gives memory back to the stream that allocated it, at once. A tensor that another stream has read
must therefore be kept until the first stream waits, however indirectly, for that reader. `record_stream` would keep
blocks of a capture for the whole capture; the clocks of the program say exactly when, in a capture too.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from typing import Any

from torch import Tensor
from torch.utils._pytree import tree_leaves

from asyncpipe.runtime.cuda.timeline import Timeline

__all__ = ["References", "storage_of", "tensors_in"]


def tensors_in(values: Any) -> list[Tensor]:
    return [leaf for leaf in tree_leaves(values) if isinstance(leaf, Tensor)]


def storage_of(tensor: Tensor) -> int:
    """The address of its memory, whatever part of it the tensor shows."""
    return tensor.untyped_storage().data_ptr()


class References:
    """Kept tensors, by the stream that allocated them and the stream that read them."""

    def __init__(self, timelines: list[Timeline]) -> None:
        self._timelines = timelines
        self._home: dict[int, int] = {}
        self._kept: list[dict[int, deque[tuple[int, list[Tensor]]]]] = [{} for _ in timelines]

    def made(self, tensors: Iterable[Tensor], stream: int) -> None:
        """These were allocated there; a later allocation at the same address takes the place over."""
        for tensor in tensors:
            self._home[storage_of(tensor)] = stream

    def read(self, tensors: Iterable[Tensor], stream: int) -> None:
        """The last call of `stream` used them."""
        elsewhere: dict[int, list[Tensor]] = {}
        for tensor in tensors:
            home = self._home.get(storage_of(tensor), stream)
            if home != stream:
                elsewhere.setdefault(home, []).append(tensor)
        position = self._timelines[stream].position
        for home, kept in elsewhere.items():
            self._kept[home].setdefault(stream, deque()).append((position, kept))

    def release(self, home: int) -> None:
        """Drop what the stream's next call comes after."""
        timeline = self._timelines[home]
        for reader, queue in self._kept[home].items():
            while queue and timeline.covers(reader, queue[0][0]):
                queue.popleft()

    @property
    def count(self) -> int:
        """Tensors that are kept now."""
        return sum(len(kept) for queues in self._kept for queue in queues.values() for _, kept in queue)

"""The calls of the CUDA runtime that the back ends make: all that stands between them and a GPU."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Protocol

from torch import Tensor

__all__ = ["MOST_STREAMS", "Cuda", "DeviceMemory", "Event", "Graph", "Stream"]

MOST_STREAMS = 32
"""PyTorch's pool for each priority and device: stream 33 is stream 1 under another name."""


@dataclass(frozen=True)
class DeviceMemory:
    """Bytes of one device, as the driver counts them."""

    free: int
    total: int


Stream = Any
"""What `stream` gave. Calls on it run in the order in which they were issued."""

Event = Any
"""What `event` gave: a point in a stream. A wait means the last record that was issued before it."""

Graph = Any
"""What `capture` gave. Two launches of one graph never overlap."""


class Cuda(Protocol):
    """One process, one issuing thread. Nothing here waits for a device but `synchronize`."""

    devices: int

    def stream(self, device: int, priority: int = 0, sms: int = 0) -> Stream:
        """A new one; `priority` 0 is the lowest, -1, -2 ... are higher; `sms`: how many it has to itself, 0 for all."""

    def event(self, external: bool = False, timing: bool = False) -> Event:
        """`external`: within a capture a record or wait becomes a node, and no edge."""

    def on(self, stream: Stream) -> AbstractContextManager[None]:
        """What torch and Triton launch within, goes to this stream."""

    def unordered(self, label: str) -> AbstractContextManager[None]:
        """Calls within it need no order among those with the same label, as the schedule intends."""

    def record(self, event: Event, stream: Stream) -> None:
        """The event stands for all calls on the stream so far."""

    def wait(self, stream: Stream, event: Event) -> None:
        """Later calls on the stream begin after the event's last record."""

    def capture(self, stream: Stream) -> AbstractContextManager[Graph]:
        """Calls on the stream, and on those that wait for its events, are nodes; nothing runs. One at a time."""

    def launch(self, graph: Graph, stream: Stream) -> None:
        """Runs all nodes, as one call of the stream."""

    def kernel(self, name: str, run: Callable[[], None], reads: Sequence[Tensor], writes: Sequence[Tensor]) -> None:
        """A launch that torch does not see: a Triton kernel with what it reads and writes."""

    def share(self, tensors: Sequence[Tensor], name: str) -> None:
        """These are read and written without order, as the schedule intends."""

    def host(self, tensor: Tensor) -> Tensor:
        """The tensor, or a copy in pinned memory if it lies on the host elsewhere; the host makes it at once."""

    def current(self) -> int:
        """The number of the current stream."""

    def pinned(self, like: Tensor) -> Tensor:
        """Memory of the host, of this shape and dtype, that a device can copy to."""

    def on_host(self, pinned: Tensor) -> list[float]:
        """Its numbers, after the host has waited for the copy."""

    def synchronize(self, event: Event) -> None:
        """The host waits until the event has happened."""

    def memory(self, device: int) -> DeviceMemory:
        """What the device has left."""

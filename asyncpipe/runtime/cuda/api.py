"""The calls of the CUDA runtime that the back ends make: all that stands between them and a GPU."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

from asyncpipe.runtime.cuda.shares import Share

__all__ = ["MOST_STREAMS", "Cuda", "DeviceMemory", "Event", "Graph", "Stream"]

MOST_STREAMS = 32
"""PyTorch's pool for each priority and device: stream 33 is stream 1 under another name."""


@dataclass(frozen=True)
class DeviceMemory:
    """Bytes of one device, as the driver counts them.

    cached: what torch has of it and uses for nothing. workspace: what a library of matrix products takes for each
    stream.
    """

    free: int
    total: int
    cached: int = 0
    workspace: int = 0

    @property
    def used(self) -> int:
        """By this and other processes, the library and the context of CUDA included."""
        return self.total - self.free - self.cached


Stream = Any
"""What `stream` gave. Calls on it run in the order in which they were issued."""

Event = Any
"""What `event` gave: a point in a stream. A wait means the last record that was issued before it; that of a graph, the
last one before its launch. All records are on streams of one device; waits may be anywhere."""

Graph = Any
"""What `capture` gave. Two launches of one graph never overlap."""


class Cuda(Protocol):
    """One process, one issuing thread. Nothing here waits for a device but `synchronize` and `settle`."""

    devices: int

    def stream(self, device: int, priority: int = 0) -> Stream:
        """A new one on all SMs; `priority` 0 is the lowest, -1, -2 ... are higher."""

    def shared_out(self, device: int, shares: Sequence[Share]) -> list[Stream]:
        """One stream for each share, by one split of the device's SMs. MachineError where it cannot be."""

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

    def capture(self, stream: Stream, after: Graph | None = None) -> AbstractContextManager[Graph]:
        """Calls on the stream, and on those that wait for its events, are nodes; nothing runs. One at a time.

        All of them on one device. `after`: a graph of the same device, whose memory this one shares; such graphs are
        launched one after another, in the order of their captures.
        """

    def launch(self, graph: Graph, stream: Stream) -> None:
        """Runs all nodes, as one call of the stream."""

    def transfer(self, target: Tensor, source: Tensor, stream: Stream, landing: Stream) -> None:
        """Copies from the device of `stream`, on it, to that of `landing`; outside captures only.

        The copy comes after all calls of both, and their later calls after it: torch has it so.
        """

    def torch_device(self, device: int) -> torch.device:
        """The device as torch calls it."""

    def here(self) -> int:
        """The device of the current stream."""

    def device_of(self, tensor: Tensor) -> int:
        """Where a tensor of a device lies."""

    def require_on(self, device: int, tensors: Sequence[Tensor]) -> None:
        """InternalError for one that lies elsewhere."""

    def register_generator(self, generator: torch.Generator) -> None:
        """Later captures on its device may draw from it; torch's own generators need no word. Again is fine."""

    def kernel(
        self,
        name: str,
        run: Callable[..., None],
        reads: Sequence[Tensor],
        writes: Sequence[Tensor],
        arguments: Sequence[Any] = (),
    ) -> None:
        """A launch that torch does not see: a Triton kernel with what it reads and writes. `run(*arguments)` launches.

        A graph has the addresses of all these tensors, and keeps none of them that it has not made.
        """

    def share(self, tensors: Sequence[Tensor], name: str) -> None:
        """These are read and written without order, as the schedule intends."""

    def host(self, tensor: Tensor) -> Tensor:
        """The tensor, or a copy in pinned memory if it lies on the host elsewhere; the host makes it at once."""

    def current(self) -> int:
        """The number of the current stream."""

    def pinned(self, like: Tensor) -> Tensor:
        """Memory of the host, of this shape and dtype, that a device can copy to."""

    def on_host(self, pinned: Tensor) -> list[float]:
        """Its numbers, whole ones as they are, after the host has waited for the copy."""

    def settle(self, devices: Sequence[int]) -> None:
        """The host waits for all that was issued there, on default streams too, such as what a model was made by."""

    def synchronize(self, event: Event) -> None:
        """The host waits until the event has happened."""

    def memory(self, device: int) -> DeviceMemory:
        """What the device has left."""

"""Losses on their way to the host, which never waits for the newest ones."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from asyncpipe.errors import NumericalError
from asyncpipe.runtime.cuda.api import Cuda, Event, Stream

__all__ = ["LossChunks", "checked_loss"]

Arrived = Callable[[int, float], None]
"""Called with (microbatch, loss) when the host has read it."""


@dataclass(frozen=True)
class _Chunk:
    microbatches: list[int]
    values: Tensor
    copied: Event


class LossChunks:
    """Collects the losses of one stream, and copies `size` of them at once into pinned memory.

    The host reads a chunk when the next but one is full: so it runs ahead of the device by at most three chunks.
    """

    def __init__(self, cuda: Cuda, stream: Stream, arrived: Arrived, size: int = 32) -> None:
        self._cuda = cuda
        self._stream = stream
        self._arrived = arrived
        self._size = size
        self._open: list[tuple[int, Tensor]] = []
        self._sent: deque[_Chunk] = deque()

    def store(self, microbatch: int, loss: Tensor) -> None:
        """On the current stream, which is the collector's."""
        self._open.append((microbatch, loss.detach()))
        if len(self._open) == self._size:
            self._send()
            while len(self._sent) > 2:
                self._read(self._sent.popleft())

    def _send(self) -> None:
        microbatches = [microbatch for microbatch, _ in self._open]
        found = torch.stack([loss.float() for _, loss in self._open])
        self._open.clear()
        values = self._cuda.pinned(found)
        values.copy_(found, non_blocking=True)
        copied = self._cuda.event()
        self._cuda.record(copied, self._stream)
        self._sent.append(_Chunk(microbatches, values, copied))

    def _read(self, chunk: _Chunk) -> None:
        self._cuda.synchronize(chunk.copied)
        for microbatch, value in zip(chunk.microbatches, self._cuda.on_host(chunk.values), strict=True):
            self._arrived(microbatch, checked_loss(microbatch, value))

    def finish(self) -> None:
        """Waits for all of them."""
        with self._cuda.on(self._stream):
            if self._open:
                self._send()
        while self._sent:
            self._read(self._sent.popleft())


def checked_loss(microbatch: int, value: float) -> float:
    """NumericalError for a loss that is not finite."""
    if not math.isfinite(value):
        raise NumericalError(
            f"the loss of microbatch {microbatch} is {value}",
            "lower the learning rate; momentum and staleness multiply its effect",
        )
    return value

"""What a CUDA graph needs of launches while it is captured, and a stand-in for CUDA of every launch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextvars import ContextVar
from typing import Any, Protocol

import torch
from torch import Tensor

__all__ = ["ADDRESSES", "LAUNCHES", "CapturedAddresses", "Launches", "current_stream"]


class Launches(Protocol):
    """Takes launches instead of the driver."""

    def kernel(
        self,
        name: str,
        run: Callable[..., None],
        reads: Sequence[Tensor],
        writes: Sequence[Tensor],
        arguments: Sequence[Any] = (),
    ) -> None:
        """`run(*arguments)` launches; the tensors are all that it touches."""

    def current(self) -> int:
        """The number of the current stream."""


LAUNCHES: ContextVar[Launches | None] = ContextVar("LAUNCHES", default=None)


class CapturedAddresses:
    """Rows of addresses that captured launches read, written after the capture: a copy within it would be a node more
    of every replay, and would need pinned memory, which cannot be had while capturing. A graph knows the rows by
    their address only: they must live as long as it does.
    """

    def __init__(self, count: int, device: torch.device) -> None:
        # Each list starts at 16 bytes: for another alignment Triton compiles anew, which a capture does not allow.
        self._rows = torch.zeros(2 * count, dtype=torch.int64, device=device)
        self._taken: list[int] = []

    def take(self, addresses: Sequence[int]) -> Tensor:
        """Where these will be, from `upload` on. RuntimeError where there are more than `count`."""
        self._taken += [0] * (len(self._taken) % 2)
        first, end = len(self._taken), len(self._taken) + len(addresses)
        if end > len(self._rows):
            raise RuntimeError(f"expected at most {len(self._rows) // 2} addresses in one capture, found more")
        self._taken += addresses
        return self._rows[first:end]

    def upload(self) -> None:
        """After the capture, before the first replay. Waits for the device."""
        self._rows[: len(self._taken)].copy_(torch.tensor(self._taken, dtype=torch.int64))


ADDRESSES: ContextVar[CapturedAddresses | None] = ContextVar("ADDRESSES", default=None)


def current_stream(device: torch.device) -> int:
    """A number that is the same for launches which follow one another."""
    launches = LAUNCHES.get()
    if launches is not None:
        return launches.current()
    return torch.cuda.current_stream(device).cuda_stream if device.type == "cuda" else 0

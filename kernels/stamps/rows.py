"""Where time stamps are written; on a CPU the kernel has a twin, since Triton's interpreter knows no clock."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from asyncpipe.kernels.fused.issuing import LAUNCHES

__all__ = ["Stamp", "StampRows"]


class Stamp(NamedTuple):
    """A row: the number of the launch that wrote it, nanoseconds of the device's clock, the multiprocessor."""

    launch: int
    nanoseconds: int
    multiprocessor: int


_COLUMNS = len(Stamp._fields)
_OPTIONS = {"num_warps": 1, "enable_fp_fusion": False}
"""Nothing to fuse, but Triton warns where it is not told."""


class StampRows:
    """Rows for `width` stamps of each launch; `depth` launches later, a power of two, they are written again.

    values: int64 (depth * width * 3), -1 where nothing was stamped. launch: int64 (1), raised by whoever launches, so
    that captured stamps write rows of their own in each launch.
    """

    def __init__(self, width: int, depth: int, device: torch.device) -> None:
        if depth < 1 or depth & (depth - 1):
            raise ValueError(f"depth: expected a power of two, found {depth}")
        self.width, self.depth = width, depth
        self.values = torch.full((depth * width * _COLUMNS,), -1, dtype=torch.int64, device=device)
        self.launch = torch.zeros(1, dtype=torch.int64, device=device)

    def stamp(self, slot: int) -> None:
        """Launches the kernel on the current stream, which is one of the rows' device."""
        run, watched = _launch if self.values.is_cuda else _stamp_on_host, LAUNCHES.get()
        if watched is None:
            run(*self._arguments(slot))
        else:
            watched.kernel("stamp_kernel", run, [self.launch], [self.values], self._arguments(slot))

    def _arguments(self, slot: int) -> tuple[Any, ...]:
        """All numbers at run time: one compiled kernel serves all rows, in captures too."""
        return self.values, self.launch, slot, self.width, self.depth

    def read(self, values: Sequence[int], launch: int, slot: int) -> Stamp:
        """What a copy of `values` on the host says; of another launch, where that one has overwritten it."""
        first = (launch % self.depth * self.width + slot) * _COLUMNS
        return Stamp(*values[first : first + _COLUMNS])

    def compile(self) -> Any:
        """Triton's compiled kernel, for the active driver's target."""
        from asyncpipe.kernels.stamps.device import stamp_kernel

        return stamp_kernel.warmup(*self._arguments(0), grid=(1,), **_OPTIONS)


def _launch(*arguments: Any) -> None:
    from asyncpipe.kernels.stamps.device import stamp_kernel

    stamp_kernel[(1,)](*arguments, **_OPTIONS)


def _stamp_on_host(values: Tensor, launch: Tensor, slot: int, width: int, depth: int) -> None:
    """The kernel's twin."""
    stamp = Stamp(int(launch.numpy()[0]), time.perf_counter_ns(), 0)
    values.numpy().reshape(-1, _COLUMNS)[stamp.launch % depth * width + slot] = stamp

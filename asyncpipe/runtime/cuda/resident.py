"""Data sets that lie on the devices: what fits is copied there once, and the graphs gather their batches themselves."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves

from asyncpipe.errors import UsageError, did_you_mean
from asyncpipe.runtime.cuda.api import Cuda, Stream
from asyncpipe.runtime.cuda.static import several_shapes
from asyncpipe.runtime.rows import Rows

__all__ = ["PLACES", "ResidentBatches", "ResidentData"]

PLACES = ("auto", "device", "pinned")
"""Where a training has its data: on the devices if they fit, there in any case, or in pinned memory of the host."""
_PERIODS = 64
"""Whose rows are uploaded at once: a batch of 128 has 1 KiB of them."""
_SHARE = 0.9
"""Of the memory that a plan leaves, what data may take."""


@dataclass
class ResidentData:
    """The tables of one training. wanted: one of PLACES. reason: why they are where they are."""

    cuda: Cuda
    wanted: str = "auto"
    reason: str = "the batches come as tensors"
    _tables: dict[tuple[int, int], Tensor] = field(default_factory=dict)
    _sources: list[Tensor] = field(default_factory=list)
    _refused: set[int] = field(default_factory=set)

    def __post_init__(self) -> None:
        if self.wanted not in PLACES:
            raise UsageError(f"data: no place is called {self.wanted!r}", did_you_mean(self.wanted, PLACES))

    @property
    def facts(self) -> dict[str, Any]:
        size = sum(table.nbytes for table in self._tables.values())
        return {"place": "device" if self._tables else "pinned", "bytes": size, "reason": self.reason}

    def admit(self, batch: Any, device: int, room: int) -> None:
        """Takes the tables of a batch in, on the current stream of `device`, if `room` bytes are enough for them."""
        tables = {id(leaf.table): leaf.table for leaf in tree_leaves(batch) if isinstance(leaf, Rows)}
        new = [table for key, table in tables.items() if (key, device) not in self._tables and key not in self._refused]
        size = sum(table.nbytes for table in new)
        if not new:
            return
        if self.wanted == "pinned":
            self.reason = "asked for"
            return
        if self.wanted == "auto" and size > _SHARE * room:
            self._refused |= {id(table) for table in new}
            self._sources += new
            self.reason = f"device {device} has {max(room, 0)} bytes left for {size} of data"
            return
        self.reason = "asked for" if self.wanted == "device" else "the devices have room for them"
        for table in new:
            self._sources.append(table)  # a table that is gone would leave its number to another one
            # Once, and large: pinned memory would only hold it twice.
            self._tables[id(table), device] = table.to(self.cuda.torch_device(device), copy=True)

    def bytes_on(self, device: int) -> int:
        """What was taken in there."""
        return sum(table.nbytes for (_, on), table in self._tables.items() if on == device)

    def table_of(self, rows: Rows, device: int) -> Tensor | None:
        """The table on a device, if it is there."""
        return self._tables.get((id(rows.table), device))


class ResidentBatches:
    """The inputs, or the targets, of the microbatches that a period reads, each once: gathered within the graph.

    The rows of many periods lie on the device. Each microbatch has a counter there, which says where its own are, and
    which its gathering moves on to the next period.
    """

    def __init__(
        self, cuda: Cuda, table: Tensor, launching: Stream, samples: Sequence[tuple[int, Rows]], executables: int = 1
    ) -> None:
        """`executables`: of so many periods in turn these are the batches of one."""
        self._stride = executables * len(samples)
        self._cuda = cuda
        self._table = table
        self._numbers = [microbatch for microbatch, _ in samples]
        self._size = len(samples[0][1])
        with cuda.on(launching):
            shape = (_PERIODS * len(samples), self._size)
            self._order = torch.zeros(shape, dtype=torch.int64, device=table.device)
            self._counters = torch.zeros(len(samples), dtype=torch.int64, device=table.device)
        # Each has one reader and writer of its own, on whatever stream.
        cuda.share([self._counters], "the counters of batches")
        self._run: object = None
        self._uploaded = range(0)
        self._next = 0

    @property
    def numbers(self) -> list[int]:
        """The microbatches of the captured period."""
        return self._numbers

    def place(self, microbatch: int) -> Tensor:
        """What the captured period reads: operations on the current stream."""
        at = self._numbers.index(microbatch)
        counter = self._counters.narrow(0, at, 1)
        chosen = self._order.index_select(0, counter).squeeze(0)
        counter.add_(len(self._numbers))
        return self._table.index_select(0, chosen)

    def fill(self, launching: Stream, source: Callable[[int], Any], shift: int, run: object, length: int) -> None:
        """For the period `shift` microbatches after the captured one; most often there is nothing to do.

        source: the rows of a microbatch of `run`, which has `length` of them.
        """
        stride = self._stride
        follows = run is self._run and shift == self._next and shift in self._uploaded
        self._run, self._next = run, shift + stride
        if follows:
            return
        left = (length - max(self._numbers) - shift - 1) // stride + 1
        self._uploaded = range(shift, shift + stride * min(_PERIODS, left), stride)
        self._upload(launching, [self._rows(source(n + s)) for s in self._uploaded for n in self._numbers])

    def _rows(self, batch: Any) -> Tensor:
        if not isinstance(batch, Rows) or len(batch) != self._size:
            raise several_shapes([(self._size,)], [(len(batch),)])
        return batch.chosen

    def _upload(self, launching: Stream, rows: Sequence[Tensor]) -> None:
        host = self._cuda.pinned(self._order[: len(rows)])
        torch.stack(list(rows), out=host)
        first = self._cuda.pinned(self._counters)
        torch.arange(len(self._counters), out=first)
        with self._cuda.on(launching):
            self._order[: len(rows)].copy_(host, non_blocking=True)
            self._counters.copy_(first, non_blocking=True)

"""Batches on their way to a device: each stream that reads one copies it itself, so that nobody waits for anybody."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from torch import Tensor
from torch.utils._pytree import tree_map, tree_map_only

from asyncpipe.runtime.cuda.api import Cuda
from asyncpipe.runtime.cuda.resident import ResidentData
from asyncpipe.runtime.feed import Batch, Feed
from asyncpipe.runtime.rows import Rows, materialised

__all__ = ["DeviceFeed"]


class DeviceFeed(Feed):
    """`inputs`, `target` and `targets` are on the current stream's device, `host_input` and `host_target` on the host.

    `input_rows` and `target_rows` are those of data that may lie on devices: `resident` knows which do.
    """

    def __init__(
        self, batches: Iterable[Batch], microbatches: int, cuda: Cuda, resident: ResidentData | None = None
    ) -> None:
        super().__init__(batches, microbatches)
        self.microbatches = microbatches
        self.resident = resident or ResidentData(cuda, "pinned")
        self._cuda = cuda

    def inputs(self, microbatch: int) -> Any:
        return self._sent(super().inputs(microbatch))

    def target(self, microbatch: int) -> Any:
        return self._sent(super().target(microbatch))

    def targets(self, microbatch: int) -> Any:
        return self._sent(super().targets(microbatch))

    def input_rows(self, microbatch: int) -> Any:
        """As the data has it."""
        return super().inputs(microbatch)

    def target_rows(self, microbatch: int) -> Any:
        """The same of the target."""
        return super().target(microbatch)

    def host_input(self, microbatch: int) -> Any:
        return self._pinned(super().inputs(microbatch))

    def host_target(self, microbatch: int) -> Any:
        return self._pinned(super().target(microbatch))

    def forget(self, microbatch: int) -> None:
        """Nobody reads it any more."""
        super().targets(microbatch)

    def _next(self) -> Batch:
        """On the host: of a batch on a device nobody knows later on which stream it was made."""
        batch: Batch = tree_map_only(Tensor, Tensor.cpu, super()._next())
        return batch

    def _pinned(self, batch: Any) -> Any:
        return tree_map_only(Tensor, self._cuda.host, materialised(batch))

    def _sent(self, batch: Any) -> Any:
        """A copy: a graph later writes other batches to the places where its capture found these."""
        return tree_map(self._leaf, batch)

    def _leaf(self, leaf: Any) -> Any:
        if isinstance(leaf, Rows):
            table = self.resident.table_of(leaf, self._cuda.here())
            return self._copied(leaf.gathered()) if table is None else table.index_select(0, self._copied(leaf.chosen))
        return self._copied(leaf) if isinstance(leaf, Tensor) else leaf

    def _copied(self, tensor: Tensor) -> Tensor:
        return self._cuda.host(tensor).to(self._cuda.torch_device(self._cuda.here()), non_blocking=True, copy=True)

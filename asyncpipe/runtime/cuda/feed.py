"""Batches on their way to a device: each stream that reads one copies it itself, so that nobody waits for anybody."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_map_only

from asyncpipe.runtime.cuda.api import Cuda
from asyncpipe.runtime.feed import Batch, Feed

__all__ = ["DeviceFeed"]


class DeviceFeed(Feed):
    """`inputs`, `target` and `targets` are on the device; `host_input` and `host_target` as the data has them."""

    def __init__(self, batches: Iterable[Batch], microbatches: int, cuda: Cuda, device: torch.device) -> None:
        super().__init__(batches, microbatches)
        self._cuda = cuda
        self._device = device

    def inputs(self, microbatch: int) -> Any:
        return self._sent(super().inputs(microbatch))

    def target(self, microbatch: int) -> Any:
        return self._sent(super().target(microbatch))

    def targets(self, microbatch: int) -> Any:
        return self._sent(super().targets(microbatch))

    def host_input(self, microbatch: int) -> Any:
        return tree_map_only(Tensor, self._cuda.host, super().inputs(microbatch))

    def host_target(self, microbatch: int) -> Any:
        return tree_map_only(Tensor, self._cuda.host, super().target(microbatch))

    def forget(self, microbatch: int) -> None:
        """Nobody reads it any more."""
        super().targets(microbatch)

    def _sent(self, batch: Any) -> Any:
        """A copy: a graph later writes other batches to the places where its capture found these."""
        return tree_map_only(Tensor, self._copied, batch)

    def _copied(self, tensor: Tensor) -> Tensor:
        return self._cuda.host(tensor).to(self._device, non_blocking=True, copy=True)

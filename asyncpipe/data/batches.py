"""Mini-batches of a split, the same for the same seed and epoch, from any batch on."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from asyncpipe.data.dataset import Split
from asyncpipe.errors import UsageError

__all__ = ["Batches"]


class Batches:
    """Batches of `batch` samples: shuffled by (seed, epoch) and full by default, in order and all for tests.

    What `split` draws for a sample follows from (seed, epoch) too, in whatever batch it is. Every batch is a fresh
    pair of contiguous tensors, so that a consumer may keep or change it.
    """

    def __init__(
        self, split: Split, batch: int, *, seed: int = 0, shuffle: bool = True, drop_last: bool = True
    ) -> None:
        """UsageError where `split` does not fill one batch."""
        self.split = split
        self.batch = batch
        self.seed = seed
        self.shuffle = shuffle
        self.drop_last = drop_last
        _check(self)

    def __len__(self) -> int:
        """Batches per epoch."""
        full, rest = divmod(len(self.split), self.batch)
        return full + (rest > 0 and not self.drop_last)

    def batches(self, epoch: int = 0, skip: int = 0) -> Iterator[tuple[Tensor, Tensor]]:
        """The epoch's (inputs, targets) after its first `skip` batches, which cost nothing to pass over."""
        if epoch < 0 or not 0 <= skip <= len(self):
            raise UsageError(
                f"expected an epoch of at least 0 and 0 to {len(self)} batches to skip, "
                f"found epoch {epoch} and {skip} batches"
            )
        order = self._order(epoch)[skip * self.batch : len(self) * self.batch]
        starts = range(0, len(order), self.batch)
        return (self._at(order[start : start + self.batch], epoch) for start in starts)

    def chosen(self, epoch: int = 0, skip: int = 0) -> Iterator[Tensor]:
        """The numbers of the samples in those batches."""
        order = self._order(epoch)[skip * self.batch : len(self) * self.batch]
        return (order[start : start + self.batch] for start in range(0, len(order), self.batch))

    def _at(self, chosen: Tensor, epoch: int) -> tuple[Tensor, Tensor]:
        return self.split.take(chosen, self.seed, epoch)

    def _order(self, epoch: int) -> Tensor:
        if not self.shuffle:
            return torch.arange(len(self.split))
        # Hashed, not added: seed 1 must not repeat the epochs of seed 0 one epoch later.
        (mixed,) = np.random.SeedSequence((self.seed, epoch)).generate_state(1, np.uint64)
        generator = torch.Generator().manual_seed(int(mixed))
        return torch.randperm(len(self.split), generator=generator)


def _check(batches: Batches) -> None:
    if batches.batch < 1 or batches.seed < 0:
        raise UsageError(
            f"expected a batch of at least 1 sample and a seed of at least 0, "
            f"found batch {batches.batch} and seed {batches.seed}"
        )
    if len(batches) == 0:
        raise UsageError(
            f"the split holds {len(batches.split)} samples, fewer than one batch of {batches.batch}",
            f"a batch of at most {len(batches.split)} fits" if len(batches.split) else "give it samples",
        )

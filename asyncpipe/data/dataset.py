"""What a data set is: two splits of samples and targets, and their sizes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from asyncpipe.errors import UsageError

__all__ = ["DataSet", "Prepare", "Split", "as_tokens"]

Prepare = Callable[[Tensor, Tensor, Tensor, int, int], tuple[Tensor, Tensor]]
"""(stored inputs, stored targets, numbers of the samples, seed, epoch) -> (inputs, targets) of a batch."""


@dataclass(frozen=True, eq=False)
class Split:
    """Samples and their targets as they are stored: inputs (samples, ...), targets (samples, ...).

    `prepare` makes of them what the model gets, so that memory holds bytes of pixels, or only names of files. What it
    draws at random depends on seed, epoch and the number of the sample alone. Without it they are what they are.
    """

    inputs: Tensor
    targets: Tensor
    prepare: Prepare | None = None

    def __post_init__(self) -> None:
        if len(self.inputs) != len(self.targets):
            raise UsageError(
                f"expected one target for each sample, found {len(self.inputs)} samples and {len(self.targets)} targets"
            )

    def __len__(self) -> int:
        return len(self.inputs)

    def take(self, chosen: Tensor, seed: int = 0, epoch: int = 0) -> tuple[Tensor, Tensor]:
        """The samples of these numbers, (inputs, targets): fresh tensors on the split's device."""
        chosen = chosen.to(self.inputs.device)
        inputs, targets = self.inputs.index_select(0, chosen), self.targets.index_select(0, chosen)
        return self.prepare(inputs, targets, chosen, seed, epoch) if self.prepare else (inputs, targets)


@dataclass(frozen=True, eq=False)
class DataSet:
    """A split to train on and one to evaluate with; the fields are those of `DataShape`."""

    train: Split
    test: Split
    classes: int
    sample_shape: tuple[int, ...]
    vocabulary: int | None = None
    target_shape: tuple[int, ...] = ()


def as_tokens(inputs: Tensor, targets: Tensor, chosen: Tensor, seed: int, epoch: int) -> tuple[Tensor, Tensor]:
    """Prepares ids that are stored in a small integer type: int64, as embeddings and losses take them."""
    return inputs.long(), targets.long()

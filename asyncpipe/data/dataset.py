"""What a data set is: two splits of samples and targets, and their sizes."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from asyncpipe.errors import UsageError

__all__ = ["DataSet", "Split"]


@dataclass(frozen=True, eq=False)
class Split:
    """Samples and their targets: inputs (samples, *sample_shape), targets (samples, ...)."""

    inputs: Tensor
    targets: Tensor

    def __post_init__(self) -> None:
        if len(self.inputs) != len(self.targets):
            raise UsageError(
                f"expected one target for each sample, found {len(self.inputs)} samples and {len(self.targets)} targets"
            )

    def __len__(self) -> int:
        return len(self.inputs)


@dataclass(frozen=True, eq=False)
class DataSet:
    """A split to train on and one to evaluate with."""

    train: Split
    test: Split
    classes: int
    sample_shape: tuple[int, ...]

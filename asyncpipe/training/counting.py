"""The batches of one `fit`, counted: how many there are before it, how many samples they had after it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import chain
from typing import Any

from torch import Tensor

from asyncpipe.errors import UsageError
from asyncpipe.runtime.feed import as_pair
from asyncpipe.runtime.rows import Rows, materialised

__all__ = ["SampleCounter", "counted"]

Batches = Iterable[tuple[Any, Any]]


def counted(batches: Batches, microbatches: int | None) -> tuple[int, Any, Iterator[tuple[Any, Any]]]:
    """(how many, the first input, all of them as an iterator)."""
    if microbatches is None:
        try:
            microbatches = len(batches)  # type: ignore[arg-type]
        except TypeError:  # also a DataLoader over an iterable data set
            batches = list(batches)
            microbatches = len(batches)
    if microbatches < 1:
        raise UsageError("there are no batches to train on", "give at least one (input, target) pair")
    iterator = iter(batches)
    first = next(iterator, None)
    if first is None:
        raise UsageError("there are no batches to train on", "give at least one (input, target) pair")
    return microbatches, materialised(as_pair(first, 0)[0]), chain([first], iterator)


class SampleCounter:
    """Counts the samples that pass by."""

    def __init__(self) -> None:
        self.count = 0

    def over(self, batches: Iterator[tuple[Any, Any]]) -> Iterator[tuple[Any, Any]]:
        for number, batch in enumerate(batches):
            target = as_pair(batch, number)[1]
            several = isinstance(target, Rows) or (isinstance(target, Tensor) and target.dim() > 0)
            self.count += len(target) if several else 1
            yield batch

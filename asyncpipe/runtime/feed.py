"""Microbatches by number: several forward streams may ask at once, in any order."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from asyncpipe.errors import UsageError, UserCodeError, UserError
from asyncpipe.runtime.randomness import GENERATOR_LOCK

__all__ = ["Batch", "Feed", "as_pair"]

Batch = tuple[Any, Any]


class Feed:
    """Hands out (input, target) of microbatch m; each is kept from its first use to its last.

    The lock is around the data iterator only, which is not made for several threads and may draw random numbers.
    """

    def __init__(self, batches: Iterable[Batch], microbatches: int) -> None:
        self._iterator = iter(batches)
        self._microbatches = microbatches
        self._read = 0
        self._kept: dict[int, Batch] = {}

    def inputs(self, microbatch: int) -> Any:
        """The input of a microbatch, for the first stage."""
        return self._batch(microbatch)[0]

    def target(self, microbatch: int) -> Any:
        """The target of a microbatch, for a stage below the last."""
        return self._batch(microbatch)[1]

    def targets(self, microbatch: int) -> Any:
        """The target of a microbatch, for the last stage; the microbatch is forgotten after it."""
        target = self._batch(microbatch)[1]
        del self._kept[microbatch]
        return target

    def _batch(self, microbatch: int) -> Batch:
        if microbatch not in self._kept:
            with GENERATOR_LOCK:
                while self._read <= microbatch:
                    self._kept[self._read] = self._next()
                    self._read += 1
        return self._kept[microbatch]

    def _next(self) -> Batch:
        try:
            batch: Any = next(self._iterator)
        except StopIteration:
            message = f"the data ended after {self._read} batches; the run needs {self._microbatches}"
            raise UsageError(message, "give more batches, or fewer steps") from None
        except UserError:
            raise
        except Exception as error:
            raise UserCodeError(f"the data raised at batch {self._read}: {type(error).__name__}: {error}") from error
        return as_pair(batch, self._read)


def as_pair(batch: Any, number: int) -> Batch:
    """(input, target) of a batch; UsageError for anything else."""
    if isinstance(batch, tuple | list) and len(batch) == 2:
        return batch[0], batch[1]
    found = f"{type(batch).__name__}" + (f" of {len(batch)}" if hasattr(batch, "__len__") else "")
    raise UsageError(f"batch {number}: expected an (input, target) pair, found {found}", "map the data to pairs first")

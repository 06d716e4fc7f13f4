"""What torch and Python raise where memory ends, as one error with one code."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from asyncpipe.errors import Diagnostic, OutOfMemoryError

__all__ = ["is_out_of_memory", "naming_what_is_built", "out_of_memory"]

_HINT = "lower the batch or `in_flight`, add `recompute: full`, or spread the stages over more devices"
_ON_THE_HOST = "DefaultCPUAllocator"
"""Torch raises a plain RuntimeError there."""


def is_out_of_memory(error: BaseException) -> bool:
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    return isinstance(error, RuntimeError) and _ON_THE_HOST in str(error)


def out_of_memory(place: str, error: BaseException) -> OutOfMemoryError:
    """AP707 for an error that `is_out_of_memory`; `place`: what was being done."""
    where = "the host" if not isinstance(error, torch.OutOfMemoryError) else "the device"
    wanted = re.search(r"(?:allocate|allocating) ([0-9.]+ (?:[KMG]iB|bytes))", str(error))
    asked = f", which was asked for {wanted[1]} more" if wanted else ""
    return OutOfMemoryError.of(Diagnostic("AP707", f"{place}: {where} has no memory left{asked}", hint=_HINT))


@contextmanager
def naming_what_is_built(what: str) -> Iterator[None]:
    """OutOfMemoryError where memory ends within."""
    try:
        yield
    except Exception as error:
        if not is_out_of_memory(error):
            raise
        raise out_of_memory(what, error) from error

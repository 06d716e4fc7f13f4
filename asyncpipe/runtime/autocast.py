"""Autocast, of a job or entered by the user around a run: thread-local in torch, and with a cache that updates would
not reach."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext

import torch

__all__ = ["Autocast", "autocast_of_this_thread", "autocasting", "entered"]

Autocast = Sequence[tuple[str, torch.dtype]]
"""(device, dtype) of each that is on."""


def autocast_of_this_thread() -> Autocast:
    """Empty where autocast is off."""
    return [(d, torch.get_autocast_dtype(d)) for d in ("cpu", "cuda") if torch.is_autocast_enabled(d)]


@contextmanager
def entered(autocast: Autocast) -> Iterator[None]:
    """The same in the calling thread, without its cache: torch keeps cast weights until the outermost context ends,
    here the whole run, while updates change what they were cast from."""
    with ExitStack() as stack:
        for device, dtype in autocast:
            stack.enter_context(torch.autocast(device, dtype=dtype, cache_enabled=False))
        yield


def autocasting(device: str, dtype: torch.dtype | None) -> AbstractContextManager[None]:
    """Forwards on this kind of device compute in `dtype` where torch.autocast says so; None: as outside."""
    return nullcontext() if dtype is None else entered([(device, dtype)])

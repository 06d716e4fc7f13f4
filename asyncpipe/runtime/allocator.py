"""glibc's allocator gives freed memory back to the system at once and gets it again page by page; training reuses it.

Measured on two cores: a 2 x 128 LSTM spends a quarter of its time on 4,500 page faults a batch, and they serialise
threads. Keeping freed memory helps plain PyTorch just as much.
"""

from __future__ import annotations

import ctypes
import os
from functools import cache

__all__ = ["keep_freed_memory"]

_TRIM_THRESHOLD, _TOP_PAD, _MMAP_THRESHOLD = -1, -2, -3
_LARGE = 1 << 30
_PAD = 64 << 20


@cache
def keep_freed_memory() -> bool:
    """For this process, from now on. False where there is no glibc, or ASYNCPIPE_MALLOC=system forbids it."""
    if os.environ.get("ASYNCPIPE_MALLOC") == "system":
        return False
    try:
        mallopt = ctypes.CDLL("libc.so.6").mallopt
    except (OSError, AttributeError):
        return False
    settings = ((_MMAP_THRESHOLD, _LARGE), (_TRIM_THRESHOLD, _LARGE), (_TOP_PAD, _PAD))
    return all(mallopt(parameter, value) == 1 for parameter, value in settings)

"""What CUDA would reject, or get wrong without a word."""

from __future__ import annotations

from enum import StrEnum

from asyncpipe.errors import InternalError

__all__ = ["Kind", "Violation"]


class Kind(StrEnum):
    """Each names the call that CUDA fails, or the silent consequence."""

    RACE = "race"
    EARLY_REUSE = "memory is used again too early"
    FREED = "memory of a graph was freed"
    NEVER_RECORDED = "wait for an event that was never recorded"
    ISOLATION = "capture isolation"
    UNJOINED = "a stream was not joined"
    DEFAULT_STREAM = "work on the default stream"
    SYNCHRONIZED = "the host waits in a capture"
    NESTED = "two captures at once"
    FIRST_LAUNCH = "first launch of a kernel in a capture"
    GENERATOR = "a capture draws from a generator that it does not know"
    CAPTURED_EVENT = "an event of a capture is used outside"
    STREAM_POOL = "too many streams"
    OTHER_DEVICE = "memory of another device"
    EVENT_DEVICE = "an event of another device"
    OLD_RECORD = "a graph waits for what an event was before"
    POOL_ORDER = "graphs that share memory run in another order"
    STALE_HOST = "the host reads what has not been written yet"


class Violation(InternalError):
    """Raised at the call that breaks the rule."""

    def __init__(self, kind: Kind, message: str) -> None:
        super().__init__(f"{kind}: {message}")
        self.kind = kind

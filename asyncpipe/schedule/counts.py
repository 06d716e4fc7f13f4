"""Whole numbers that Python callers give, with the limits of the command line."""

from __future__ import annotations

from asyncpipe.errors import UsageError

__all__ = ["MOST_STAGES", "require_count"]

MOST_STAGES = 4096


def require_count(name: str, value: object, most: int | None = None) -> None:
    """UsageError unless it is an integer from 1 to `most`, or None, which leaves it to the schedule."""
    if value is None or (type(value) is int and value >= 1 and (most is None or value <= most)):
        return
    expected = "of at least 1" if most is None else f"from 1 to {most:,}"
    raise UsageError(f"{name}: expected an integer {expected}, found {value!r}", "leave it out for the default")

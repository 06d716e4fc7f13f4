"""Numbers and lists in words."""

from __future__ import annotations

from collections.abc import Sequence

__all__ = ["bytes_text", "counted", "several"]

_MOST_NAMED = 4


def bytes_text(size: float) -> str:
    """`401 kB`, three digits."""
    for unit in ("B", "kB", "MB", "GB"):
        if size < 999.5:
            return f"{size:.3g} {unit}"
        size /= 1000
    return f"{size:.3g} TB"


def counted(number: int, noun: str, plural: str = "") -> str:
    """`1 layer`, `1,234 layers`."""
    return f"{number:,} {noun if number == 1 else plural or f'{noun}s'}"


def several(names: Sequence[str]) -> str:
    """The first few, and how many more there are."""
    rest = len(names) - _MOST_NAMED
    return ", ".join(names) if rest <= 1 else f"{', '.join(names[:_MOST_NAMED])} and {rest} more"

"""Numbers of a watched run in words."""

from __future__ import annotations

__all__ = ["percent", "span"]

_PARTS = ((86400, "d"), (3600, "h"), (60, "min"), (1, "s"))


def span(seconds: float) -> str:
    """The two largest parts: `41 s`, `6 min 12 s`, `2 h 5 min`; below ten seconds with a tenth."""
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    left, parts = round(seconds), list[str]()
    for size, unit in _PARTS:
        if left >= size or parts:
            count, left = divmod(left, size)
            parts.append(f"{count} {unit}")
        if len(parts) == 2:
            break
    return " ".join(parts)


def percent(share: float) -> str:
    return f"{share:.1%}"

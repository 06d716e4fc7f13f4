"""Sizes for people to read."""

from __future__ import annotations

__all__ = ["GIB", "MIB", "size_text"]

MIB, GIB = 2**20, 2**30


def size_text(size: int) -> str:
    """`512 MiB`, `139.8 GiB`."""
    return f"{size / GIB:.1f} GiB" if size >= GIB else f"{size / MIB:.0f} MiB"

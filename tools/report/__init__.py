"""`asyncpipe tools report`: run directories as one HTML page, and as PNGs."""

from __future__ import annotations

__all__: list[str] = []

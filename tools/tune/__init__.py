"""`asyncpipe tools tune`: which counts of streams, depth, cut and threads make a schedule fastest on this machine."""

from __future__ import annotations

__all__: list[str] = []

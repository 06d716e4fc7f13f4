"""`asyncpipe tools compare`: whether one schedule is worth it against another, on one job, by paired seeds."""

from __future__ import annotations

__all__: list[str] = []

"""Measuring and diagnosing: what `asyncpipe tools ...` runs. Each module stands alone; import it by name."""

from __future__ import annotations

__all__: list[str] = []

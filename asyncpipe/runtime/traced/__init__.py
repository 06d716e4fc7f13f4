"""Stage functions as plain graphs, traced once: what CUDA streams and CUDA graphs run, without the autograd engine."""

from __future__ import annotations

from asyncpipe.runtime.traced.stage import TracedStage

__all__ = ["TracedStage"]

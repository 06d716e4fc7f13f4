"""`asyncpipe tools ...`: what looks at runs and machines. Each tool loads on first use."""

from __future__ import annotations

import click

from asyncpipe.cli.lazy import LazyGroup

__all__ = ["command"]

_TOOLS = {
    "report": "Draw runs as one page: learning curves, staleness, schedules.",
    "compare": "Say whether one schedule is worth it against another.",
}


@click.group("tools", cls=LazyGroup, helps=_TOOLS, modules={name: f"tools_{name}" for name in _TOOLS})
def command() -> None:
    """Look at runs, and compare schedules."""

"""`asyncpipe tools ...`: what looks at runs and machines. Each tool loads on first use."""

from __future__ import annotations

import click

from asyncpipe.cli.lazy import LazyGroup

__all__ = ["command"]

_TOOLS = {
    "doctor": "Say what this machine has and lacks, and what to do.",
    "fit": "Read a model before its first run: stages, memory, what does not fit.",
    "profile": "Say where the time of a schedule goes on this machine.",
    "tune": "Find the counts of streams, depth and cut that are fastest here.",
    "bench": "Measure asyncpipe against the best plain PyTorch programs, here.",
    "compare": "Say whether one schedule is worth it against another.",
    "watch": "Show a running job: loss, speed, streams, staleness, GPUs.",
    "trace": "Write the measured timeline of a schedule or a run for Perfetto.",
    "report": "Draw runs as one page: learning curves, staleness, schedules.",
}


@click.group("tools", cls=LazyGroup, helps=_TOOLS, modules={name: f"tools_{name}" for name in _TOOLS})
def command() -> None:
    """Look at machines, models and runs; measure, tune and compare schedules."""

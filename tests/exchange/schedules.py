"""Schedules that the exchange tests compile."""

from __future__ import annotations

from pathlib import Path

from asyncpipe.compiler import Compiled, compile_schedule
from asyncpipe.errors import Report
from asyncpipe.schedule import load
from asyncpipe.schedule.load import load_text

__all__ = ["TABLES", "compiled_file", "compiled_text", "greedy", "of_table"]

TABLES = (
    ("gpipe", 3, 3, 5),
    ("gpipe", 1, 1, 2),
    ("1f1b", 4, 4, 8),
    ("1f1b", 4, 4, 2),
    ("interleaved-1f1b", 2, 4, 4),
    ("interleaved-1f1b", 3, 9, 6),
    ("zb-h1", 4, 4, 8),
    ("zb-h1", 2, 6, 6),
    ("looped-bfs", 2, 4, 3),
    ("zbv", 3, 6, 7),
)
"""(name, devices, stages, microbatches)"""
V_SHAPED = ("zbv", "dualpipev")


def of_table(name: str, devices: int, stages: int, microbatches: int) -> str:
    """A schedule with the generated table `name`."""
    runs = "F, I, W, U" if name in ("zb-h1", "zbv") else "F, B, U"
    down = "s % D" if name not in V_SHAPED else [min(s, stages - 1 - s) for s in range(stages)]
    return f"""\
asyncpipe: 1
name: {name}
stages: {stages}
devices: {devices}
place: {down}
streams:
  compute: {{runs: [{runs}], per: device, table: {name}}}
rules:
  - F[0, m] after U[*, g-1]
update: {{every: {microbatches}}}
"""


def greedy(order: str, in_flight: str = "", devices: int = 4, every: int = 8) -> str:
    """One stage on each device, ordered by what is most urgent."""
    bound = f"in_flight: {in_flight}\n" if in_flight else ""
    return f"""\
asyncpipe: 1
stages: {devices}
devices: {devices}
streams:
  compute: {{runs: [F, B, U], per: device, order: [{order}]}}
{bound}rules:
  - F[0, m] after U[*, g-1]
update: {{every: {every}}}
"""


def compiled_text(text: str) -> Compiled:
    report = Report()
    schedule = load_text(text, "schedule.yaml", report)
    assert report.diagnostics == []
    assert schedule is not None
    return compile_schedule(schedule)


def compiled_file(path: Path) -> Compiled:
    return compile_schedule(load(path))

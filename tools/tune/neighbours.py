"""How much of the processors other processes used meanwhile: on a busy machine no trial means much."""

from __future__ import annotations

import os
import re
import time
from pathlib import Path
from types import TracebackType
from typing import Self

__all__ = ["Neighbours"]

_STAT = Path("/proc/stat")
_LINE = re.compile(r"^cpu(\d+) (.*)$", re.MULTILINE)
_BUSY = (0, 1, 2, 5, 6, 7)
"""Fields of /proc/stat: user, nice, system, irq, softirq, and steal: what other guests of the host took."""


class Neighbours:
    """`others`: how many cores others kept busy between enter and exit, of those that this process may use.

    None where the system does not tell.
    """

    others: float | None = None

    def __enter__(self) -> Self:
        self._before = _now()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        before, after = self._before, _now()
        if before is not None and after is not None and after[0] > before[0]:
            seconds = after[0] - before[0]
            self.others = max(0.0, (after[1] - before[1] - (after[2] - before[2])) / seconds)


def _now() -> tuple[float, float, float] | None:
    """(clock, seconds that our cores were busy since they started, seconds that this process used)."""
    busy = busy_seconds(_text(), os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else None
    own = os.times()
    return None if busy is None else (time.perf_counter(), busy, own.user + own.system)


def _text() -> str:
    try:
        return _STAT.read_text()
    except OSError:
        return ""


def busy_seconds(stat: str, cores: set[int]) -> float | None:
    """The seconds for which these cores were busy, from the text of /proc/stat; None where one is missing."""
    lines = {int(number): values.split() for number, values in _LINE.findall(stat)}
    if not cores <= lines.keys():
        return None
    ticks = os.sysconf("SC_CLK_TCK")
    return sum(int(lines[core][field]) for core in cores for field in _BUSY if field < len(lines[core])) / ticks

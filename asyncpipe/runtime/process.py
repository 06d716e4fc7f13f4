"""Which process a run is, in a way that another program can check later: numbers of processes are used again."""

from __future__ import annotations

import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self

__all__ = ["ProcessIdentity"]

_PROC = Path("/proc")
_START = 22 - 4
"""Place among the fields of /proc/PID/stat behind the state, which is number 3 of proc(5); before it is the name."""


@dataclass(frozen=True)
class ProcessIdentity:
    """`started`: in clock ticks since the machine booted. `place`: this boot of this machine, and container.

    Both are None where the system does not tell.
    """

    pid: int
    started: int | None
    place: str | None

    @classmethod
    def of_this(cls) -> Self:
        return cls(os.getpid(), _started(os.getpid()), _place())

    @classmethod
    def read(cls, document: Any) -> Self | None:
        """What `document` made; None for anything else."""
        try:
            return cls(int(document["pid"]), document["started"], document["place"])
        except (KeyError, TypeError, ValueError):
            return None

    def document(self) -> dict[str, Any]:
        """As JSON values; no host or user name."""
        return asdict(self)

    def lives(self) -> bool | None:
        """Whether it runs; None where that cannot be told: it is on another machine, or in another container."""
        if self.place is None or self.place != _place():
            return None
        return _started(self.pid) == self.started


def _place() -> str | None:
    try:
        boot = (_PROC / "sys/kernel/random/boot_id").read_text().strip()
        return f"{boot} {os.readlink(_PROC / 'self/ns/pid')}"
    except OSError:
        return None


def _started(pid: int) -> int | None:
    """None where there is no such process, or only what is left of one until its parent asks."""
    try:
        state, *fields = (_PROC / str(pid) / "stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return None if state in "ZX" else int(fields[_START])

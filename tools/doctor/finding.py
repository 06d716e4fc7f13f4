"""What a probe says: how it stands, about what, and what to do."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Literal, TypeAlias

from asyncpipe.tools.doctor.environment import Environment

__all__ = ["Finding", "Probe", "Status", "fail", "ok", "warn"]

Status: TypeAlias = Literal["ok", "warn", "fail"]
"""`fail`: something does not work here. `warn`: it works, but slowly or in part."""


@dataclass(frozen=True)
class Finding:
    """One line of the report; `fix` is a command or a step, empty where nothing is to do."""

    status: Status
    subject: str
    message: str
    fix: str = ""


Probe: TypeAlias = Callable[[Environment], Iterable[Finding]]
"""Judges facts; asks the machine nothing."""


def ok(subject: str, message: str) -> Finding:
    return Finding("ok", subject, message)


def warn(subject: str, message: str, fix: str = "") -> Finding:
    return Finding("warn", subject, message, fix)


def fail(subject: str, message: str, fix: str = "") -> Finding:
    return Finding("fail", subject, message, fix)

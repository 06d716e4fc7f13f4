"""What `fit` finds: one line of cause, how bad it is, where, and what to do."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Literal

from asyncpipe.tools.fit.places import Place

__all__ = ["Finding", "Severity", "worst"]

Severity = Literal["ok", "warn", "fail"]
_ORDER: Sequence[Severity] = ("ok", "warn", "fail")


@dataclass(frozen=True)
class Finding:
    """`check`: what was looked at. `todo` is empty where nothing has to be done."""

    check: str
    severity: Severity
    message: str
    todo: str = ""
    places: tuple[Place, ...] = field(default=())


def worst(findings: Iterable[Finding]) -> Severity:
    return max((finding.severity for finding in findings), key=_ORDER.index, default="ok")

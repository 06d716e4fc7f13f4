"""What the back ends of this version cannot run yet; such a schedule can be checked, drawn and simulated."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

from asyncpipe.errors import Diagnostic
from asyncpipe.ir import Op
from asyncpipe.passes.diagram import Diagram
from asyncpipe.schedule import Schedule

__all__ = ["slow_pushes", "untrainable"]


def untrainable(schedule: Schedule) -> list[Diagnostic]:
    """AP108 for each part that no back end runs yet, with its place; empty for a schedule that `run` accepts."""
    return [
        Diagnostic(
            "AP108",
            f"this version cannot train `{text}` yet",
            schedule.where(key),
            "`check`, `show` and `simulate` can; train with another schedule",
        )
        for key, text in _parts(schedule)
    ]


def _parts(schedule: Schedule) -> Iterator[tuple[str, str]]:
    apart = any(Op.R in group.runs and Op.U not in group.runs for group in schedule.streams)
    if schedule.weights.backward == "private" and apart:
        yield "weights", "weights.backward: private, with R in a group without U"


class _Compiled(Protocol):
    @property
    def schedule(self) -> Schedule: ...
    @property
    def diagram(self) -> Diagram: ...
    @property
    def ticks(self) -> _Ticks: ...


class _Ticks(Protocol):
    def of(self, op: Op, stage: int) -> int: ...


def slow_pushes(compiled: _Compiled) -> list[Diagnostic]:
    """AP108 where updated parameters need time to reach the forward's device: one memory cannot show them late."""
    stages = [s for op, s in compiled.diagram.ops if op is Op.SEND_U and compiled.ticks.of(op, s)]
    if not stages:
        return []
    message = "this version cannot train with transfers of parameters that take time (costs SEND) yet"
    return [Diagnostic("AP108", message, compiled.schedule.where("costs"), "set SEND to 0 for the run")]

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
    update, weights = schedule.update, schedule.weights
    forward, backward = weights.texts
    if weights.forward != "latest":
        yield "weights", f"weights.forward: {forward}"
    if weights.backward not in ("latest", "same"):
        yield "weights", f"weights.backward: {backward}"
    for key, able in (("write", ("ordered", "racy")), ("owner", ("shared",)), ("scope", ("all",)), ("commit", (1,))):
        if getattr(update, key) not in able:
            yield "update", f"update.{key}: {getattr(update, key)}"
    for transform in schedule.gradient:
        yield "gradient", f"gradient: {transform}"
    if schedule.aux.gradient != "chain":
        yield "aux", f"aux.gradient: {schedule.aux.gradient}"
    if schedule.recompute.mode != "none":
        yield "recompute", f"recompute: {schedule.recompute.mode}"
    if schedule.replicas.count > 1:
        yield "replicas", f"replicas.count: {schedule.replicas.count}"


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

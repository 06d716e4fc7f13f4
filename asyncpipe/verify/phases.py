"""AP614: phases that cannot follow one another, or change nothing."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

from asyncpipe.errors import Diagnostic
from asyncpipe.schedule import Schedule
from asyncpipe.schedule.spec import Phase

__all__ = ["phase_findings"]


def phase_findings(schedule: Schedule) -> Iterator[Diagnostic]:
    """What is wrong with the list itself; what runs in a phase is compiled as any schedule."""
    for phase in schedule.phases:
        yield from _changes(schedule, phase)
    for before, after in pairwise(schedule.phases):
        if _kind(before) is _kind(after) and after.until <= before.until:
            message = f"the phase until {after.until} comes after the one until {before.until}"
            yield Diagnostic("AP614", message, after.where, "write them in their order, and each end once")


def _kind(phase: Phase) -> type:
    """Updates and shares of a training cannot be compared before its length is known."""
    return type(phase.until)


def _changes(schedule: Schedule, phase: Phase) -> Iterator[Diagnostic]:
    if phase.sync is not None and schedule.replicas.sync is None:
        message = "the phase says how replicas stay together, but there is one replica"
        yield Diagnostic("AP614", message, phase.where, "add `replicas: {count: 2, sync: ...}` to the file")
        return
    if schedule.during(phase) == schedule.during(Phase(phase.until)):
        hint = "let it have `update: {scope: ...}` or `replicas: {sync: ...}` of its own, or remove it"
        yield Diagnostic("AP614", f"the phase until {phase.until} changes nothing", phase.where, hint)

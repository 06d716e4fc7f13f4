"""AP401 and AP506: more memory or more staleness than the caller allows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from asyncpipe.errors import Report
from asyncpipe.schedule import Schedule

__all__ = ["check_memory", "check_staleness"]


class _Device(Protocol):
    @property
    def device(self) -> int: ...
    @property
    def activations(self) -> int: ...
    @property
    def parameters(self) -> int: ...


def check_memory(schedule: Schedule, devices: Sequence[_Device], limit: int, report: Report) -> None:
    """AP401 for the fullest device that needs more than `limit` bytes for activations and versions of parameters."""
    fullest = max(devices, key=lambda d: d.activations + d.parameters)
    needed = fullest.activations + fullest.parameters
    if needed <= limit:
        return
    message = (
        f"device {fullest.device} needs {needed:,} bytes, {fullest.activations:,} for activations and"
        f" {fullest.parameters:,} for versions of parameters, but the limit is {limit:,}"
    )
    if fullest.activations > fullest.parameters:
        hint = "lower `in_flight`, add `recompute: full`, or spread the stages over more devices"
    else:
        hint = "use `backward: latest` instead of kept versions, or spread the stages over more devices"
    report.error("AP401", message, schedule.where("in_flight", "streams"), hint)


def check_staleness(schedule: Schedule, staleness: Sequence[int], limit: int, report: Report) -> None:
    """AP506 where the planned staleness of a stage, at its most, is above the limit."""
    if max(staleness) <= limit:
        return
    stage = staleness.index(max(staleness))
    message = f"stage {stage} reaches a staleness of {max(staleness)}, but the limit is {limit}"
    hint = f"add the rule F[s, m] after U[s, g-{limit + 1}], or lower `in_flight` or the number of streams"
    report.error("AP506", message, schedule.where("in_flight", "streams"), hint)

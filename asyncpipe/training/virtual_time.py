"""How fast a run was in virtual time, in units of T: one microbatch's way forward through all stages."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from asyncpipe.analysis.delay_time import forward_cost
from asyncpipe.ir import Kind, Op
from asyncpipe.runtime.replicas import ReplicaGroup

__all__ = ["Pace", "pace_of", "pace_text"]


@dataclass(frozen=True)
class Pace:
    """`time` of whole runs and `forward` (T) in units of cost.

    In `steady_time`, while all streams still had work, `steady` microbatches (of all replicas) had their loss. A late
    stream takes longer for its share; what the others did meanwhile is counted here, and lost in a makespan.
    """

    time: float
    forward: float
    microbatches: int
    steady: float
    steady_time: float

    def __add__(self, other: Pace) -> Pace:
        return Pace(
            self.time + other.time,
            self.forward,
            self.microbatches + other.microbatches,
            self.steady + other.steady,
            self.steady_time + other.steady_time,
        )

    @property
    def throughput(self) -> float | None:
        """Microbatches per T while all streams were at work; None where the runs were too short."""
        return self.steady * self.forward / self.steady_time if self.steady_time else None

    def summary(self) -> dict[str, Any]:
        """The `virtual` of a run's summary."""
        return {
            "forward_cost": self.forward,
            "time_T": self.time / self.forward if self.forward else None,
            "microbatches_per_T": self.throughput,
            "microbatches_per_T_to_the_end": self.microbatches * self.forward / self.time if self.time else None,
        }


def pace_of(group: ReplicaGroup) -> Pace | None:
    """Of a run that has ended; None without virtual time."""
    time = group.clock.virtual
    if time is None:
        return None
    rows = list(_loss_times(group))
    count = sum(len(row) for _, row in rows)
    end = min((row[-1] for _, row in rows if row), default=0.0)
    rates = [_rate([time for time in row if time <= end], period) for period, row in rows]
    known = [rate for rate in rates if rate is not None]
    steady_time = end if len(known) == len(rates) else 0.0
    return Pace(time, float(forward_cost(group.program)), count, sum(known) * steady_time, steady_time)


def _loss_times(group: ReplicaGroup) -> Iterator[tuple[int, list[float]]]:
    """For each stream that ends forwards, in each replica: losses in one period, and when all were known."""
    program = group.program
    for number, stream in enumerate(program.streams):
        if Op.F not in stream.runs:
            continue
        ends = [a.index for a, _, _ in program.launches(number) if a.op is Op.F and a.stage == program.stages - 1]
        period = sum(
            kind is Kind.LAUNCH and where == number and action.op is Op.F and action.stage == program.stages - 1
            for kind, where, action in program.body
        )
        for execution in group.executions if ends else ():
            found = [execution.moments[microbatch] for microbatch in ends]
            yield period, [moment.virtual for moment in found if moment is not None and moment.virtual is not None]


def _rate(times: list[float], period: int) -> float | None:
    """Losses per time in the later two thirds, over whole periods of so many losses."""
    whole = (len(times) - 1) * 2 // 3 // period * period if period else 0
    return whole / (times[-1] - times[-1 - whole]) if whole else None


def pace_text(summary: dict[str, Any] | None) -> str:
    """A line for people; empty without virtual time."""
    if summary is None or summary["time_T"] is None:
        return ""
    rate = summary["microbatches_per_T"]
    shown = "" if rate is None else f", {rate:.4g} microbatches in each"
    return f"virtual time: {summary['time_T']:g} forward passes{shown}\n"

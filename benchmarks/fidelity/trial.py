"""One schedule: profiled and measured in turns, predicted from the profiles alone."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from statistics import median
from typing import Any

from asyncpipe.analysis.prediction import microbatch_ends, microbatches_for, steady_period
from asyncpipe.errors import Report, ScheduleError
from asyncpipe.ir import TimedRun
from asyncpipe.schedule import Schedule
from asyncpipe.schedule.job import JobSpec, read_job
from asyncpipe.tools.profile.profile import examine
from asyncpipe.tools.profile.session import ProfileRequest, Profiling

__all__ = ["Sizes", "Trial", "run_trial"]

_STAGES = 4
_RATE = 1e-4
"""Small enough that no schedule diverges; times do not depend on it."""
_REVERSIBLE = ("petra",)
"""Schedules that train reversible networks only."""


@dataclass(frozen=True)
class Sizes:
    """So many pairs of runs, each about so long and with so many steady iterations at least."""

    rounds: int
    seconds: float
    iterations: int = 5


@dataclass(frozen=True)
class Trial:
    """Seconds per microbatch of one replica: of each measured run, and predicted from each profiled one."""

    schedule: str
    stages: int
    replicas: int
    streams: int
    workers: int
    microbatches: int
    periods: tuple[float, ...]
    predictions: tuple[float, ...]
    profiled: tuple[float, ...]
    on_own_processors: float

    @property
    def measured(self) -> float:
        return median(self.periods)

    @property
    def predicted(self) -> float:
        return median(self.predictions)

    @property
    def error(self) -> float:
        return self.predicted / self.measured - 1

    @property
    def own_error(self) -> float:
        """Of predictions for the very runs whose times they were made of: what the model leaves out, without drift."""
        return median(one / other for one, other in zip(self.predictions, self.profiled, strict=True)) - 1

    def document(self) -> dict[str, Any]:
        found = {
            "measured": self.measured,
            "predicted": self.predicted,
            "error": self.error,
            "own_error": self.own_error,
        }
        return {**asdict(self), **found}


def run_trial(schedule: Schedule, sizes: Sizes) -> Trial:
    """Raises what training the schedule raises."""
    job = _job("digits-revnet" if schedule.name in _REVERSIBLE else "digits")
    own = Profiling(ProfileRequest(replace(schedule, phases=()), job, "threads", _STAGES))
    period = own.warm_up()
    least = microbatches_for(own.compiled.program(), sizes.iterations)
    every = own.compiled.schedule.update.every
    count = max(least, -(-round(sizes.seconds / period) // every) * every)
    profiles, periods = [], []
    for _ in range(sizes.rounds):
        profiles.append(examine(own.run(count), own.workers))
        periods.append(_period(own.run(count)))
    program = profiles[0].run.program
    return Trial(
        schedule.name,
        program.stages,
        program.replicas,
        len(program.streams) * program.replicas,
        own.workers,
        count,
        tuple(periods),
        tuple(profile.predicted.on_workers for profile in profiles),
        tuple(profile.period for profile in profiles),
        median(profile.predicted.on_own_processors for profile in profiles),
    )


def _period(run: TimedRun) -> float:
    return steady_period(microbatch_ends((t.replica, t.action, t.end) for t in run.actions), run.program)


def _job(name: str) -> JobSpec:
    report = Report()
    spec = read_job(name, report, [f"job.optimizer.lr={_RATE}"])
    if spec is None:
        raise ScheduleError(report.diagnostics)
    return spec

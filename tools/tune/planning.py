"""Each candidate compiled, checked against the limits, and its speed planned from the profile; nothing runs."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from math import floor, log

from asyncpipe.analysis.memory import memory
from asyncpipe.analysis.prediction import microbatches_for, predict
from asyncpipe.analysis.steady import run_steady
from asyncpipe.analysis.timing import Timing
from asyncpipe.compiler import Compiled, compile_schedule
from asyncpipe.errors import ScheduleError, UsageError
from asyncpipe.schedule import Schedule, load
from asyncpipe.staging import cut_stages
from asyncpipe.tools.tune.candidate import Candidate
from asyncpipe.tools.tune.inputs import job_overrides
from asyncpipe.tools.tune.profile import Profile

__all__ = ["Limits", "Plan", "Planner", "by_promise"]

_ITERATIONS = 12
"""Of the steady body, as long as planned."""
_ALIKE = 1.05
"""Planned speeds within 5 per cent are equal: the plan is not more precise than that."""


@dataclass(frozen=True)
class Limits:
    """What a setting may need: staleness of any stage, and bytes of one device."""

    staleness: int | None = None
    memory: int | None = None


@dataclass(frozen=True)
class Plan:
    """`speed` in samples per second, None where it was not planned; or why the candidate cannot be."""

    candidate: Candidate
    speed: float | None = None
    streams: int = 0
    workers: int = 0
    counts: str = ""
    in_flight: str = ""
    stages: int = 0
    staleness: int = 0
    devices_bytes: int | None = None
    rejected: str = ""
    means: Hashable = field(default=None, repr=False)
    """Equal for settings that run the same program on the same cut of the model."""


class Planner:
    """Plans candidates for one job, as the profile shows it."""

    def __init__(self, profile: Profile, limits: Limits, overrides: Sequence[str], stages: int | None) -> None:
        self.profile = profile
        self.limits = limits
        self.overrides = tuple(overrides)
        self.asked = stages

    def plan(self, candidate: Candidate) -> Plan:
        """ScheduleError is a rejection, with the compiler's first finding."""
        try:
            schedule = load(candidate.schedule, self._overrides(candidate))
            cut = self._cut(schedule, candidate)
            compiled = compile_schedule(schedule, len(cut))
        except (ScheduleError, UsageError) as error:
            return Plan(candidate, rejected=_cause(error))
        return self._planned(candidate, compiled, cut)

    def _overrides(self, candidate: Candidate) -> tuple[str, ...]:
        own = job_overrides(self.overrides) if candidate.is_synchronous else self.overrides
        return (*own, *candidate.overrides)

    def _cut(self, schedule: Schedule, candidate: Candidate) -> tuple[range, ...]:
        asked = None if candidate.is_synchronous or "stages" in dict(candidate.settings) else self.asked
        layers = self.profile.layers
        return cut_stages(schedule, asked, len(layers), lambda: layers)

    def _planned(self, candidate: Candidate, compiled: Compiled, cut: tuple[range, ...]) -> Plan:
        streams = len(compiled.program().streams) * compiled.schedule.replicas.count
        stale = max(compiled.staleness.max)
        needed = self._bytes(compiled, cut)
        plan = Plan(
            candidate,
            streams=streams,
            workers=self.profile.on(streams, candidate.threads or self.profile.threads).count,
            counts=":".join(str(_count(compiled, number)) for number in range(len(compiled.schedule.streams))),
            in_flight="" if compiled.schedule.in_flight is None else str(compiled.schedule.in_flight),
            stages=compiled.stages,
            staleness=stale,
            devices_bytes=needed,
            rejected=self._refusal(stale, needed),
            means=_meaning(candidate, compiled, cut),
        )
        return plan if plan.rejected else replace(plan, speed=self._speed(candidate, compiled, cut, streams))

    def _bytes(self, compiled: Compiled, cut: tuple[range, ...]) -> int:
        found = memory(run_steady(compiled.program(), Timing()), self.profile.sizes(cut))
        return max(device.activations + device.parameters for device in found.devices)

    def _refusal(self, staleness: int, needed: int) -> str:
        if self.limits.staleness is not None and staleness > self.limits.staleness:
            return f"staleness {staleness} is above {self.limits.staleness}"
        if self.limits.memory is not None and needed > self.limits.memory:
            return f"a device needs {needed:,} bytes, more than {self.limits.memory:,}"
        return ""

    def _speed(self, candidate: Candidate, compiled: Compiled, cut: tuple[range, ...], streams: int) -> float | None:
        profile, threads = self.profile, candidate.threads or self.profile.threads
        if not profile.knows_layers and cut != profile.cut:
            return None
        program = compiled.program(microbatches_for(compiled.program(), _ITERATIONS))
        found = predict(program, profile.seconds(cut, threads), profile.on(streams, threads))
        return profile.batch * program.replicas / found.period if found.period else None


def _meaning(candidate: Candidate, compiled: Compiled, cut: tuple[range, ...]) -> Hashable:
    program = compiled.program()
    run = candidate.schedule, candidate.threads, candidate.period, candidate.unseen
    return run, cut, program.streams, program.slots, program.warmup, program.body, program.cooldown


def _count(compiled: Compiled, group: int) -> int:
    return sum(stream.group == group for stream in compiled.diagram.streams)


def _cause(error: ScheduleError | UsageError) -> str:
    first = error.diagnostics[0] if error.diagnostics else None
    return error.message if first is None else f"{first.code}: {first.message}"


def by_promise(plans: Iterable[Plan]) -> list[Plan]:
    """The best first; of speeds that are alike to the plan those with less staleness, fewer streams, fewer stages."""
    known = [plan for plan in plans if plan.speed and not plan.rejected]
    best = max((plan.speed or 0.0 for plan in known), default=1.0)

    def rank(plan: Plan) -> tuple[float, ...]:
        behind = floor(log(best / (plan.speed or best)) / log(_ALIKE) + 1e-9)
        return behind, plan.staleness, plan.streams, plan.stages, len(plan.candidate.settings)

    return sorted(known, key=rank)

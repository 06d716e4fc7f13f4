"""A profile with its setting, and as the document that goes into profile.json."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from statistics import fmean
from typing import TYPE_CHECKING, Any

from asyncpipe.ir import Op
from asyncpipe.tools.profile.distributions import Distribution
from asyncpipe.tools.profile.files import fingerprint
from asyncpipe.tools.profile.overheads import Overheads
from asyncpipe.tools.profile.profile import Profile
from asyncpipe.tools.profile.streams import StreamUse
from asyncpipe.tools.profile.times import OpTimes

if TYPE_CHECKING:
    from asyncpipe.tools.profile.efficiency import Efficiency

__all__ = ["ProfileReport", "Setting", "document", "histogram"]


@dataclass(frozen=True)
class Setting:
    """What was run; `batch` is the samples of a microbatch."""

    schedule: str
    job: str
    backend: str
    device: str
    seed: int
    batch: int
    intra_op_threads: int
    warm_microbatches: int


@dataclass(frozen=True)
class ProfileReport:
    """`stopwatch_seconds`: what timing one action costs. `unavailable`: the reason for each part that is missing."""

    setting: Setting
    profile: Profile
    efficiency: Efficiency | None
    stopwatch_seconds: float
    gpu: Mapping[str, Any] | None = None
    unavailable: Mapping[str, str] = field(default_factory=dict)

    @property
    def stopwatch_share(self) -> float:
        """Of the time of all workers."""
        run = self.profile.run
        return self.stopwatch_seconds * len(run.actions) / (self.profile.length * self.profile.workers)


def document(report: ProfileReport) -> dict[str, Any]:
    """`asyncpipe.profile/1`: seconds and bytes; what is null has its reason in `unavailable`."""
    profile, program = report.profile, report.profile.run.program
    stages = program.stages
    return {
        "schema": "asyncpipe.profile/1",
        **asdict(report.setting),
        "stages": stages,
        "replicas": program.replicas,
        "microbatches": program.microbatches,
        "program_sha256": fingerprint(program),
        "period_s": profile.period,
        "samples_per_s": profile.samples_per_s(report.setting.batch),
        "steady": {"microbatches": profile.steady[0], "seconds": profile.steady[1]},
        "wall_s": profile.length,
        "predicted": {
            "period_s": profile.predicted.on_workers,
            "error": profile.predicted.error(profile.period),
            "period_on_own_processors_s": profile.predicted.on_own_processors,
        },
        "costs": profile.times.costs(stages),
        "costs_alone": None if profile.alone is None else profile.alone.costs(stages),
        "contention": {op.value: factor for op, factor in profile.contention.items()},
        "times": _times(profile.times, stages),
        "samples": _samples(profile),
        "beta": _beta(profile.times, stages),
        "workers": profile.workers,
        "worker_busy": list(profile.worker_busy),
        "overheads": _overheads(profile.overheads),
        "streams": [_stream(use) for use in profile.streams],
        "in_flight": [{str(count): share for count, share in shares.items()} for shares in profile.in_flight],
        "staleness": dict(profile.staleness) or None,
        "efficiency": _efficiency(report),
        "gpu": None if report.gpu is None else dict(report.gpu),
        "stopwatch": {"action_s": report.stopwatch_seconds, "share": report.stopwatch_share, **_clock(report)},
        "unavailable": dict(report.unavailable),
    }


def _overheads(found: Overheads) -> dict[str, Any]:
    """Seconds between two actions of a worker, and until an idle one begins."""
    return {
        "hand_over_s": fmean(found.hand_overs),
        "wake_s": fmean(found.wakes),
        "hand_over": _distribution(found.hand_over),
        "wake": _distribution(found.wake),
    }


def _clock(report: ProfileReport) -> dict[str, float]:
    """Of a device, where it timed the actions."""
    clock = report.profile.run.clock
    return {} if clock is None else {"step_s": clock.step, "between_devices_s": clock.between_devices}


def _times(times: OpTimes, stages: int) -> dict[str, list[dict[str, float] | None]]:
    """By op, per stage; null where the stage does not run it."""
    ops = [op for op in Op if times.of(op)]
    return {op.value: [_distribution(times.of(op).get(stage)) for stage in range(stages)] for op in ops}


def _samples(profile: Profile) -> dict[str, Any]:
    """What a simulation draws from, in seconds: at most 32 numbers for each op and stage, and for each overhead."""
    times, stages = profile.times.samples, range(profile.run.program.stages)
    ops = [op for op in Op if profile.times.of(op)]
    found = {op.value: [list(times.get((op, stage), ())) for stage in stages] for op in ops}
    return {"ops": found, "hand_over": profile.overheads.hand_overs, "wake": profile.overheads.wakes}


def _distribution(found: Distribution | None) -> dict[str, float] | None:
    return None if found is None else asdict(found)


def _beta(times: OpTimes, stages: int) -> dict[str, Any]:
    return {"all": times.beta(), "per_stage": [times.beta(stage) for stage in range(stages)]}


def _stream(use: StreamUse) -> dict[str, Any]:
    """Seconds; they add up to `wall_s`."""
    return {
        "replica": use.replica,
        "name": use.stream.name,
        "device": use.stream.device,
        "busy_s": use.busy,
        "waiting_s": use.waiting,
        "no_worker_s": use.no_worker,
        "dispatch_s": use.dispatch,
        "ends_s": use.ends,
        "waits": [
            {
                "action": _named(wait.target),
                "for": None if wait.source is None else _named(wait.source),
                "reason": wait.reason,
                "seconds": wait.seconds,
                "count": wait.occurrences,
            }
            for wait in use.waits
        ],
    }


def _named(key: tuple[Op, int]) -> str:
    """`2F`: an op at a stage."""
    return f"{key[1]}{key[0]}"


def _efficiency(report: ProfileReport) -> dict[str, Any] | None:
    found = report.efficiency
    if found is None:
        return None
    return {
        "flops_per_s": found.flops_per_s,
        "peak_flops_per_s": found.peak_flops_per_s,
        "mfu": found.mfu,
        "denominator": found.denominator,
    }


def histogram(counts: Mapping[str, int]) -> Sequence[tuple[int, float]]:
    """(value, share) in ascending order."""
    total = sum(counts.values())
    return [(value, counts[str(value)] / total) for value in sorted(map(int, counts))] if total else []

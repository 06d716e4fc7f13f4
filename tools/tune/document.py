"""`asyncpipe.tune/1`: all that a tuning found, as plain JSON values."""

from __future__ import annotations

from typing import Any

from asyncpipe.tools.tune.candidate import Candidate
from asyncpipe.tools.tune.objective import Objective
from asyncpipe.tools.tune.planning import Plan
from asyncpipe.tools.tune.rounds import Contender
from asyncpipe.tools.tune.statistics import Interval, ratio_of
from asyncpipe.tools.tune.tune import Tuning, is_cuda
from asyncpipe.tools.tune.verdict import standing

__all__ = ["document_of"]


def document_of(tuning: Tuning, objective: Objective, job: str, command: str) -> dict[str, Any]:
    """Speeds are samples per second, or with a target loss 1 / seconds; sizes are bytes."""
    verdict, searched = tuning.verdict, tuning.searched
    return {
        "schema": "asyncpipe.tune/1",
        "schedule": tuning.schedule.name,
        "job": job,
        "backend": tuning.trials.base.backend,
        "objective": {"unit": objective.unit, "target_loss": objective.target},
        "machine": tuning.trials.machine,
        "cores": tuning.profile.cores,
        "best": _candidate(verdict.best.plan.candidate),
        "is_synchronous": verdict.best.plan.candidate.is_synchronous,
        "gain": _interval(verdict.gain),
        "answer": verdict.answer,
        "command": command,
        "measured": [_contender(contender, tuning) for contender in tuning.contenders],
        "planned": [{**_candidate(plan.candidate), **_plan(plan)} for plan in searched.planned if not plan.rejected],
        "rejected": [{**_candidate(plan.candidate), "reason": plan.rejected} for plan in searched.rejected],
        "trials": {"file": str(tuning.trials.journal.path), "run": tuning.trials.ran},
        "unavailable": {} if is_cuda(tuning.trials.base) else {"sms": "on CUDA only", "period": "on graph only"},
    }


def _candidate(candidate: Candidate) -> dict[str, Any]:
    return {
        "schedule": candidate.schedule,
        "settings": dict(candidate.settings),
        "threads": candidate.threads,
        "period": candidate.period,
    }


def _plan(plan: Plan) -> dict[str, Any]:
    return {
        "planned_speed": plan.speed,
        "streams": plan.streams,
        "stages": plan.stages,
        "staleness": plan.staleness,
        "device_bytes": plan.devices_bytes,
    }


def _contender(contender: Contender, tuning: Tuning) -> dict[str, Any]:
    results = contender.results
    return {
        **_candidate(contender.plan.candidate),
        **_plan(contender.plan),
        "is_own": contender.plan.candidate == tuning.verdict.own.plan.candidate,
        "speed": _interval(contender.speed),
        "against_best": _interval(ratio_of(contender.rounds, tuning.verdict.best.rounds)),
        "rounds": [{"round": number, "speeds": speeds} for number, speeds in contender.rounds.items()],
        "peak_bytes": max((result["peak_bytes"] for result in results), default=None),
        "other_cores": contender.others,
        "gpu": results[-1].get("gpu") if results else None,
        "failure": contender.failure,
        "verdict": standing(contender, tuning.verdict),
    }


def _interval(found: Interval | None) -> dict[str, float | None] | None:
    return None if found is None else {"value": found.value, "low": found.low, "high": found.high}

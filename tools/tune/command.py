"""The `asyncpipe run` of a setting."""

from __future__ import annotations

import shlex
from collections.abc import Sequence

from asyncpipe.schedule.source import Scalar, file_beside
from asyncpipe.tools.tune.planning import Plan
from asyncpipe.tools.tune.rounds import Contender
from asyncpipe.tools.tune.tune import Tuning

__all__ = ["command_of"]


def command_of(tuning: Tuning, best: Contender, asked: Sequence[str], options: Sequence[str]) -> str:
    """`asked` are the overrides of the whole tuning, `options` those of its options that `run` has too."""
    candidate, plan = best.plan.candidate, best.plan
    own = [text for text in asked if text.startswith(("job.", "job=")) or not candidate.is_synchronous]
    overrides = [*own, *candidate.overrides]
    if candidate.threads is not None and not _is_default(tuning, plan):
        overrides.append(f"job.train.intra_op_threads={candidate.threads}")
    words = ["asyncpipe", "run", candidate.schedule, *options, *(_job_of(tuning) if candidate.is_synchronous else [])]
    stages = tuning.trials.base.stages
    if stages is not None and not candidate.is_synchronous and "stages" not in dict(candidate.settings):
        words += ["--stages", str(stages)]
    words += ["--period", str(candidate.period)] if candidate.period is not None else []
    return shlex.join([*words, *(word for text in overrides for word in ("-o", text))])


def _job_of(tuning: Tuning) -> list[str]:
    """The job of the tuned file, for a schedule that has none; one that is written out in it has no name of its own."""
    job = tuning.schedule.job
    if tuning.trials.base.job is not None or job is None:
        return []
    if not isinstance(job, Scalar):
        return ["--job", f"the-job-of-{tuning.schedule.name}.yaml"]
    beside = file_beside(job.where, job.text)
    return ["--job", str(beside) if beside.exists() else job.text]


def _is_default(tuning: Tuning, plan: Plan) -> bool:
    """Whether `run` takes as many intra-op threads by itself; a job that states them does so for any schedule."""
    own = tuning.searched.own
    stated = own.candidate.threads != tuning.profile.default_threads(own.streams)
    default = own.candidate.threads if stated else tuning.profile.default_threads(plan.streams)
    return plan.candidate.threads == default

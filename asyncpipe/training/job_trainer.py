"""The trainer of a job: what its file says of threads and numbers holds for runs, profiles and trials alike."""

from __future__ import annotations

from typing import Any

from asyncpipe.jobs import Job
from asyncpipe.schedule import Schedule
from asyncpipe.training.trainer import Trainer

__all__ = ["job_trainer"]


def job_trainer(job: Job, schedule: Schedule, backend: str, stages: int | None, **options: Any) -> Trainer:
    """For the job's model, loss and optimizer under a schedule. `options` are those of `Trainer`; an `intra_op_threads`
    that is not None takes the place of the job's."""
    train = job.spec.train
    threads = options.pop("intra_op_threads", None) or train.intra_op_threads
    return Trainer(
        job.model,
        schedule,
        job.loss,
        job.optimizer,
        backend,
        stages,
        intra_op_threads=threads,
        numerics=train.numerics,
        **options,
    )

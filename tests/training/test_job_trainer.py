"""What a job says of threads and numbers reaches runs, profiles and trials by one function."""

from __future__ import annotations

import torch

from asyncpipe.errors import Report
from asyncpipe.jobs import build_job
from asyncpipe.schedule import load
from asyncpipe.schedule.job import JobSpec, read_job
from asyncpipe.tools.profile.session import ProfileRequest, Profiling
from asyncpipe.tools.tune.bench import prepare
from asyncpipe.tools.tune.request import Request
from asyncpipe.training import Trainer
from asyncpipe.training.job_trainer import job_trainer

OVERRIDES = ["job.model=mlp", "job.train.dtype=bf16", "job.train.intra_op_threads=2"]


def spec() -> JobSpec:
    found = read_job(None, Report(), OVERRIDES)
    assert found is not None
    return found


def told(trainer: Trainer) -> tuple[set[torch.dtype], int | None]:
    return {parameter.dtype for parameter in trainer.model.parameters()}, trainer.intra_op_threads


def test_numbers_and_threads_are_those_of_the_job() -> None:
    schedule, job = load("sgd"), build_job(spec(), 0)
    assert told(job_trainer(job, schedule, "serial", 1)) == ({torch.bfloat16}, 2)
    assert told(job_trainer(job, schedule, "serial", 1, intra_op_threads=1)) == ({torch.bfloat16}, 1)


def test_a_profile_and_a_trial_train_as_a_run_does() -> None:
    assert told(Profiling(ProfileRequest(load("sgd"), spec(), "serial", 1)).trainer) == ({torch.bfloat16}, 2)
    assert told(prepare(Request("speed", "sgd", tuned="sgd"), "sgd", OVERRIDES, None).trainer) == ({torch.bfloat16}, 2)

"""One training of one schedule on the `serial` back end, over so many samples."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from typing import Any

from job import Job, microbatch_size
from observed import STAGES, Observer, VirtualClock, accuracy, split_batches

from asyncpipe import Trainer
from asyncpipe.errors import NumericalError
from asyncpipe.runtime.learning_rate import LearningRate
from asyncpipe.schedule import Schedule

__all__ = ["Trial", "finite", "optimizer_of", "run_trial"]

EVALUATIONS = 24
TEST_WHILE_TRAINING = 1000
"""Test images of an evaluation during the run; the one at the end takes all."""
MOMENTUM = 0.9


@dataclass(frozen=True)
class Trial:
    """A method with its learning rate, which falls to 0 on half a cosine, and seed (first weights, order of data)."""

    method: str
    lr: float
    seed: int
    samples: int


def optimizer_of(method: str, lr: float) -> dict[str, Any]:
    """SGD with momentum 0.9; nesterov-pp is an optimizer of its own (arXiv 2505.01099)."""
    if method == "nesterov-pp":
        return {"use": "nadam", "lr": lr, "betas": [0.99, 0.999]}
    return {"use": "sgd", "lr": lr, "momentum": MOMENTUM}


def run_trial(trial: Trial, schedule: Schedule, job: Job) -> dict[str, Any]:
    """What came out, as plain values; `accuracy` is None where the loss overflowed."""
    size, started = microbatch_size(schedule), time.perf_counter()
    each = trial.samples // size // schedule.replicas.count
    updates = each // schedule.update.every
    trainer = Trainer(
        job.model(trial.seed),
        schedule,
        optimizer=optimizer_of(trial.method, trial.lr),
        backend="serial",
        stages=STAGES,
        learning_rate=LearningRate(trial.lr, max(1, updates)),
        intra_op_threads=1,
    )
    observer = _observe(trainer, trial, job, size, each)
    found: dict[str, Any] = {**vars(trial), "microbatch": size, "updates": updates, "accuracy": None}
    try:
        trainer.fit(job.batches(size, trial.seed), each * schedule.replicas.count)
        found["accuracy"] = accuracy(trainer, split_batches(job.test))
    except NumericalError as error:
        found["diverged"] = str(error)
    measured = trainer.staleness.summary()
    found |= {"staleness": measured["apply"], "histogram": measured["histogram"], "curve": observer.curve}
    return found | {"time": observer.clock.now, "wall_s": time.perf_counter() - started}


def _observe(trainer: Trainer, trial: Trial, job: Job, size: int, each: int) -> Observer:
    """Hangs an observer into a trainer that is to run `each` microbatches in every replica."""
    sample, _ = next(job.batches(size, trial.seed))
    trainer.prepare(sample)
    clock = VirtualClock(trainer, each, size)
    test = split_batches(job.test, TEST_WHILE_TRAINING)
    trainer.hook = observer = Observer(trainer, clock, test, size, trial.samples // EVALUATIONS)
    return observer


def finite(value: float | None) -> float:
    """For comparisons: a diverged run is worse than any other."""
    return -math.inf if value is None else value

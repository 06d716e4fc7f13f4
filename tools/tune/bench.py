"""A job under a schedule, ready to be timed: its trainer, warmed up, with an endless supply of batches."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from torch import Tensor

from asyncpipe.analysis.prediction import microbatches_for
from asyncpipe.data.batches import Batches
from asyncpipe.ir import TimedRun
from asyncpipe.jobs import Job, build_job, make_learning_rate
from asyncpipe.runtime.learning_rate import LearningRate
from asyncpipe.runtime.stopwatch import Stopwatch
from asyncpipe.schedule import Schedule
from asyncpipe.tools.tune.inputs import read_inputs
from asyncpipe.tools.tune.request import Request
from asyncpipe.training import Trainer
from asyncpipe.training.job_trainer import job_trainer
from asyncpipe.training.trainer import optimizer_spec

__all__ = ["ITERATIONS", "Bench", "prepare"]

ITERATIONS = 20
"""A trial has at least so many iterations of the program's steady body: four in each of five windows."""


@dataclass
class Bench:
    """`done`: microbatches so far."""

    job: Job
    trainer: Trainer
    batches: Batches
    done: int = 0

    def supply(self) -> Iterator[tuple[Tensor, Tensor]]:
        """From microbatch `done` on, epoch after epoch."""
        epoch, skip = divmod(self.done, len(self.batches))
        while True:
            yield from self.batches.batches(epoch, skip)
            epoch, skip = epoch + 1, 0

    def fit(self, microbatches: int) -> float:
        """Seconds for so many."""
        wall = self.trainer.fit(self.supply(), microbatches).wall_s
        self.done += microbatches
        return wall

    def warm_up(self, seconds: float) -> float:
        """Trains for so long at least; the seconds of a microbatch at the end."""
        microbatches, spent = self.least(1), 0.0
        while True:
            wall = self.fit(microbatches)
            spent += wall
            if spent >= seconds:
                return wall / microbatches
            if wall < seconds / 4:
                microbatches *= 2

    def enough(self, seconds: float, warm_up: float) -> int:
        """Microbatches that take so long, but as many as a steady state needs; warms up."""
        return max(round(seconds / self.warm_up(warm_up)), self.least(ITERATIONS))

    def least(self, iterations: int) -> int:
        """Microbatches of all replicas that have so many iterations in the steady state."""
        sample, _ = next(self.supply())
        program = self.trainer.prepare(sample).program()
        return microbatches_for(program, iterations) * program.replicas

    def timed(self, microbatches: int) -> TimedRun:
        """One run under a stopwatch."""
        watch = self.trainer.stopwatch = Stopwatch()
        try:
            self.fit(microbatches)
        finally:
            self.trainer.stopwatch = None
        return max(watch.runs, key=lambda run: len(run.actions))


def prepare(request: Request, schedule: str, overrides: Sequence[str], threads: int | None) -> Bench:
    """The job under a schedule, yet untrained; ScheduleError and UsageError as `asyncpipe run` has them."""
    loaded, spec = read_inputs(request, schedule, overrides)
    job = build_job(spec, request.seed, request.allow)
    batches = Batches(job.data.train, spec.train.batch, seed=request.seed)
    trainer = job_trainer(
        job,
        loaded,
        request.backend,
        request.stages,
        learning_rate=_rate(job, loaded, len(batches)),
        intra_op_threads=threads,
        emulate=request.emulate,
        period=request.period or 8,
    )
    return Bench(job, trainer, batches)


def _rate(job: Job, schedule: Schedule, per_epoch: int) -> LearningRate:
    """That of a whole run of the job, warm-up and all, though a trial is shorter or longer."""
    each = schedule.update.every * schedule.replicas.count
    updates = max(1, job.spec.train.epochs * per_epoch // each)
    return make_learning_rate(optimizer_spec(job.optimizer).lr, job.spec.train.lr, updates, per_epoch / each)

"""Trains a job for a while under a stopwatch; what it shows is worked out afterwards, in `profile`."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from torch import Tensor

from asyncpipe.analysis.prediction import microbatch_ends, microbatches_for, steady_period
from asyncpipe.compiler import Compiled
from asyncpipe.data.batches import Batches
from asyncpipe.errors import UsageError
from asyncpipe.ir import TimedRun
from asyncpipe.jobs import Job, build_job
from asyncpipe.models.measure import measure_layers
from asyncpipe.runtime.backends import BACKENDS, resolve_backend
from asyncpipe.runtime.staleness import StalenessRecord
from asyncpipe.runtime.stopwatch import Stopwatch
from asyncpipe.runtime.threads import worker_count
from asyncpipe.schedule import Schedule
from asyncpipe.schedule.job import JobSpec
from asyncpipe.tools.profile.gpu import watched_gpu
from asyncpipe.training.job_trainer import job_trainer

__all__ = ["ProfileRequest", "Profiling", "Session", "measure"]

_WARM_ITERATIONS = 2
_LEAST_ITERATIONS = 4
"""Steady ones, however short the time that was asked for."""
_LEAST_WARM_SECONDS = 0.25
_ALONE_MICROBATCHES = 24
_MOST_MICROBATCHES = 200_000


@dataclass(frozen=True)
class ProfileRequest:
    """What is measured, and for how long: so many updates, or about so many seconds. `seed`: None for the job's."""

    schedule: Schedule
    spec: JobSpec
    backend: str = "auto"
    stages: int | None = None
    steps: int | None = None
    seconds: float = 5.0
    seed: int | None = None
    allow: tuple[str, ...] = ()


@dataclass(frozen=True)
class Session:
    """One measured run, after a warm-up that is not in it.

    alone: the same actions one at a time in one thread, where several ran at once. forward_flops: of a microbatch.
    """

    request: ProfileRequest
    compiled: Compiled
    run: TimedRun
    alone: TimedRun | None
    batch: int
    intra_op_threads: int
    workers: int
    warm_microbatches: int
    staleness: dict[str, Any]
    forward_flops: int = 0
    gpu: Mapping[str, Any] | None = None


class Profiling:
    """A warm trainer under a stopwatch, for one run after another; each continues the training."""

    def __init__(self, request: ProfileRequest, backend: str = "") -> None:
        self.request = request
        self.backend = resolve_backend(backend or request.backend)
        seed = request.spec.train.seed if request.seed is None else request.seed
        self.job = build_job(request.spec, seed, request.allow)
        self.batches = _endless(self.job, request.spec.train.batch, seed)
        self.trainer = job_trainer(self.job, request.schedule, self.backend, request.stages, stopwatch=Stopwatch())
        self.sample, _ = first = next(self.batches)
        self.batches = itertools.chain([first], self.batches)
        self.compiled = self.trainer.prepare(self.sample)
        self.intra_op_threads = 1
        self.warm_microbatches = 0

    @property
    def replicas(self) -> int:
        return self.compiled.schedule.replicas.count

    def run(self, microbatches: int) -> TimedRun:
        """Trains on so many microbatches of each replica."""
        assert self.trainer.stopwatch is not None
        report = self.trainer.fit(self.batches, microbatches * self.replicas)
        self.intra_op_threads = report.intra_op_threads
        found = self.trainer.stopwatch.runs[-1]
        # A run is kept by whoever asked for it: an endless training would keep them all.
        self.trainer.stopwatch = Stopwatch()
        if not found.actions:
            raise UsageError(f"on {self.backend} actions were not timed", f"use --backend {' or '.join(BACKENDS)}")
        return found

    def warm_up(self) -> float:
        """Runs that do not count, for a quarter of a second and at least two; seconds per microbatch in the last."""
        least = microbatches_for(self.compiled.program(), _WARM_ITERATIONS)
        spent, runs, period = 0.0, 0, 0.0
        while runs < 2 or spent < _LEAST_WARM_SECONDS:
            run = self.run(least)
            self.warm_microbatches += least
            ends = microbatch_ends((t.replica, t.action, t.end) for t in run.actions)
            spent, runs, period = spent + ends[-1], runs + 1, steady_period(ends, run.program)
        self.trainer.staleness = StalenessRecord(self.compiled.stages)
        return period

    def microbatches(self, period: float) -> int:
        """How many of each replica the request asks for; UsageError where they are too few to be steady."""
        program = self.compiled.program()
        if self.request.steps is None:
            asked = min(_MOST_MICROBATCHES, round(self.request.seconds / period))
            wished = max(microbatches_for(program, _LEAST_ITERATIONS), asked)
            return -(-wished // program.every) * program.every
        asked, least = self.request.steps * program.every, microbatches_for(program, 1)
        if asked < least:
            message = f"--steps {self.request.steps}: too few for a steady state of {self.compiled.schedule.name}"
            raise UsageError(message, f"use at least {-(-least // program.every)}")
        return asked

    @property
    def workers(self) -> int:
        """Threads that actions share; on a GPU every stream has a worker of its own."""
        program = self.compiled.program()
        streams = len(program.streams) * program.replicas
        return {"serial": 1, "threads": worker_count(streams, self.intra_op_threads)}.get(self.backend, streams)

    def forward_flops(self) -> int:
        """Of a microbatch, as torch's counter and the formulas of fused kernels have them."""
        layers = [module for part in self.trainer.cut for _, module in part]
        return sum(cost.forward_flops for cost in measure_layers(layers, self.sample))


def measure(request: ProfileRequest) -> Session:
    """Warms up, then trains for as long as asked. UsageError, MachineError or UserCodeError for what fails."""
    own = Profiling(replace(request, schedule=replace(request.schedule, phases=())))
    period = own.warm_up()
    run, gpu = _watched(own, own.microbatches(period))
    staleness = own.trainer.staleness.summary()
    return Session(
        request,
        own.compiled,
        run,
        _alone(own) if own.backend == "threads" and own.workers > 1 else None,
        request.spec.train.batch,
        own.intra_op_threads,
        own.workers,
        own.warm_microbatches,
        staleness,
        own.forward_flops(),
        gpu,
    )


def _watched(own: Profiling, microbatches: int) -> tuple[TimedRun, Mapping[str, Any] | None]:
    """The run, and the readings of the GPU where it has one."""
    if own.backend in BACKENDS:
        return own.run(microbatches), None
    with watched_gpu(0) as readings:
        run = own.run(microbatches)
    return run, readings(microbatches * own.replicas * own.request.spec.train.batch)


def _alone(own: Profiling) -> TimedRun:
    """The same schedule on `serial`, with as many intra-op threads."""
    other = Profiling(replace(own.request, backend="serial"))
    other.trainer.intra_op_threads = own.intra_op_threads
    least = microbatches_for(other.compiled.program(), 1)
    other.run(least)
    return other.run(max(least, _ALONE_MICROBATCHES))


def _endless(job: Job, batch: int, seed: int) -> Iterator[tuple[Tensor, Tensor]]:
    batches = Batches(job.data.train, batch, seed=seed)
    for epoch in itertools.count():
        yield from batches.batches(epoch, 0)

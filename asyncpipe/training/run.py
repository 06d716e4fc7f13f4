"""One training from start to summary: what `asyncpipe run` does once its files are read."""

from __future__ import annotations

import hashlib
import time
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import nn

from asyncpipe.data.batches import Batches
from asyncpipe.errors import UsageError
from asyncpipe.jobs import Job, build_job, make_learning_rate
from asyncpipe.runtime.backends import CUDA_BACKENDS, resolve_backend
from asyncpipe.runtime.busy import BusyMeter
from asyncpipe.runtime.interleaving import LOG_NAME
from asyncpipe.schedule import Schedule
from asyncpipe.schedule.job import JobSpec
from asyncpipe.training.delays import Pairs
from asyncpipe.training.directory import RunDirectory
from asyncpipe.training.gradient_bias import gradient_summary
from asyncpipe.training.job_trainer import job_trainer
from asyncpipe.training.loop import Loop
from asyncpipe.training.metered import Metered
from asyncpipe.training.metrics import MetricsLog
from asyncpipe.training.plan import plan_document
from asyncpipe.training.progress import Progress
from asyncpipe.training.result_text import result_text
from asyncpipe.training.segments import Segment, Segmentation
from asyncpipe.training.trainer import Trainer, optimizer_spec

__all__ = ["TrainingRun", "parameters_sha256"]

_EVALUATION_BATCH = 256


@dataclass
class TrainingRun:
    """The options of a run. `execute` trains and returns the summary, the keys of `asyncpipe.run/1`."""

    schedule: Schedule
    spec: JobSpec
    backend: str
    stages: int | None
    steps: int | None
    epochs: int | None
    seed: int | None
    allow: tuple[str, ...]
    quiet: bool
    measure_every: int = 0
    """Measures the divergence of one microbatch in so many, 0: of none, and with it the constants of the gradient."""
    target: float | None = None
    """The test accuracy whose samples and time the summary tells."""
    delays: Pairs = ()
    stragglers: Pairs = ()
    record: str | bool = False
    """Into which file the order of actions goes; true: into the run directory."""
    replay: str | None = None
    microbatches: int | None = None
    """How many a replay has, unless steps or epochs are given."""
    emulate: bool = False
    period: int | None = None
    data: str = "auto"
    """Where streams and graph keep the data set: auto, device or pinned."""
    executables: int = 1
    """How many graphs of one period are launched in turn."""
    timed: bool = False
    """Writes how busy each stream is."""

    def __post_init__(self) -> None:
        if self.timed and (backend := resolve_backend(self.backend)) in CUDA_BACKENDS:
            message = f"on {backend} the host does not see when actions begin and end"
            raise UsageError(f"--timed: {message}", "leave it out, or use serial or threads")

    def execute(self, out: str | None, environment: dict[str, object]) -> dict[str, Any]:
        seed = self.spec.train.seed if self.seed is None else self.seed
        job = build_job(self.spec, seed, self.allow)
        train = Batches(job.data.train, self.spec.train.batch, seed=seed)
        test = Batches(job.data.test, _EVALUATION_BATCH, shuffle=False, drop_last=False)
        segments = self._segments(len(train))
        trainer = self._trainer(job, segments, len(train))
        progress = Progress(sum(segment.microbatches for segment in segments), self.quiet)
        schedule = self._cut(trainer, train)
        with RunDirectory(out, self.schedule.name) as directory, progress:
            directory.write_inputs(schedule, self._as_run(seed), environment)
            directory.write_plan(plan_document(self, trainer, segments, seed))
            if self.record:
                trainer.record_to(directory.path / LOG_NAME if self.record is True else self.record)
            log = MetricsLog(directory, trainer, train.batch, self._meter(trainer))
            loop = Loop(trainer, train, test, log, progress, self.target)
            started = time.perf_counter()
            loop.run([segment.microbatches for segment in segments])
            wall = time.perf_counter() - started
            summary = self._summary(trainer, loop, wall, directory)
            directory.write_summary(summary)
        return summary

    def _cut(self, trainer: Trainer, train: Batches) -> Schedule:
        """The schedule with the number of stages that this model is cut into, unless it names the layers of each."""
        inputs, _ = next(train.batches())
        stages = trainer.prepare(inputs).stages
        named = isinstance(self.schedule.stages, tuple) and self.stages is None
        return self.schedule if named else replace(self.schedule, stages=stages)

    def _as_run(self, seed: int) -> JobSpec:
        """The job with the seed and the epochs of this run."""
        return replace(
            self.spec, train=replace(self.spec.train, seed=seed, epochs=self.epochs or self.spec.train.epochs)
        )

    def _segmentation(self, per_epoch: int) -> Segmentation:
        between = per_epoch * self.spec.train.evaluate_every
        return Segmentation(between, self.schedule.replicas.count, self.schedule.update.every)

    def _segments(self, per_epoch: int) -> list[Segment]:
        segmentation = self._segmentation(per_epoch)
        if self.steps is not None:
            return segmentation.of_updates(self.steps)
        if self.microbatches is not None and self.epochs is None:
            return segmentation.of_microbatches(self.microbatches)
        return segmentation.of_microbatches((self.epochs or self.spec.train.epochs) * per_epoch)

    def _trainer(self, job: Job, segments: list[Segment], per_epoch: int) -> Trainer:
        lr = optimizer_spec(job.optimizer).lr
        updates = sum(segment.updates for segment in segments)
        of_epoch = self._segmentation(per_epoch).full.updates / self.spec.train.evaluate_every
        rate = make_learning_rate(lr, self.spec.train.lr, updates, of_epoch)
        return job_trainer(
            job,
            self.schedule,
            self.backend,
            self.stages,
            learning_rate=rate,
            measure_every=0 if resolve_backend(self.backend) in CUDA_BACKENDS else self.measure_every,
            emulate=self.emulate,
            period=self.period,
            data=self.data,
            executables=self.executables,
            delays=self.delays,
            stragglers=self.stragglers,
            replay=self.replay,
            updates_planned=updates,
            delay_seed=self.spec.train.seed if self.seed is None else self.seed,
        )

    def _meter(self, trainer: Trainer) -> BusyMeter | None:
        """From now on around the runs of the trainer, where the run is timed."""
        if not self.timed:
            return None
        trainer.sessions = Metered(trainer.sessions)
        return trainer.sessions.meter

    def _summary(self, trainer: Trainer, loop: Loop, wall: float, directory: RunDirectory) -> dict[str, Any]:
        """Every key is explained in docs/metrics.md."""
        return {
            "schema": "asyncpipe.run/1",
            "schedule": self.schedule.name,
            "job": self.spec.name,
            "backend": resolve_backend(self.backend),
            "device": "cuda:0" if resolve_backend(self.backend) in CUDA_BACKENDS else "cpu",
            "seed": self.spec.train.seed if self.seed is None else self.seed,
            "stages": len(trainer.parts),
            "intra_op_threads": loop.intra_op_threads,
            "steps": trainer.updates,
            "samples": loop.samples,
            "wall_s": wall,
            "train_s": loop.log.spent.seconds,
            "virtual_time": loop.log.spent.virtual,
            "virtual": None if loop.pace is None else loop.pace.summary(),
            "forward_s": trainer.forward_seconds,
            **trainer.disturbance.words(),
            **trainer.sessions.words(),
            "samples_per_s": loop.samples / loop.log.spent.seconds,
            "train_loss": loop.train_loss,
            "eval": loop.evaluation,
            "best": loop.best,
            "target": None if self.target is None else {"accuracy": self.target, "reached": loop.reached},
            "staleness": [float(value) for value in trainer.predicted_staleness],
            "staleness_measured": trainer.staleness.summary(),
            "lr": {"stated": trainer.spec.lr, "auto": trainer.spec.auto, "factors": list(trainer.lr_factors)},
            "divergence": trainer.divergence.summary(),
            "gradient": gradient_summary(loop.probes, trainer.divergence),
            **trainer.platform.facts,
            "params_sha256": parameters_sha256(trainer.model),
            "out": str(directory.path),
        }

    def result_text(self, summary: dict[str, Any]) -> str:
        """The result for people."""
        return result_text(summary)


def parameters_sha256(model: nn.Module) -> str:
    """A fingerprint of every parameter and buffer: names, shapes and bits."""
    digest = hashlib.sha256()
    for name, tensor in model.state_dict().items():
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()

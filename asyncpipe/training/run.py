"""One training from start to summary: what `asyncpipe run` does once its files are read."""

from __future__ import annotations

import hashlib
import math
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from asyncpipe.data.batches import Batches
from asyncpipe.jobs import Job, build_job, make_learning_rate
from asyncpipe.runtime.backends import resolve_backend
from asyncpipe.runtime.evaluation import Evaluation
from asyncpipe.runtime.execution import Execution
from asyncpipe.schedule import Schedule
from asyncpipe.schedule.job import JobSpec
from asyncpipe.training.directory import RunDirectory
from asyncpipe.training.progress import Progress
from asyncpipe.training.trainer import Trainer, optimizer_spec

__all__ = ["TrainingRun", "parameters_sha256"]

_EVALUATION_BATCH = 256


@dataclass
class TrainingRun:
    """The options of a run. `execute` trains and returns the summary, the keys of `asyncpipe.run/1`."""

    schedule: Schedule
    spec: JobSpec
    backend: str
    device: str
    stages: int | None
    steps: int | None
    epochs: int | None
    seed: int | None
    allow: tuple[str, ...]
    quiet: bool

    def execute(self, out: str | None, environment: dict[str, object]) -> dict[str, Any]:
        seed = self.spec.train.seed if self.seed is None else self.seed
        job = build_job(self.spec, seed, self.allow)
        train = Batches(job.data.train, self.spec.train.batch, seed=seed)
        test = Batches(job.data.test, _EVALUATION_BATCH, shuffle=False, drop_last=False)
        microbatches = self._microbatches(len(train))
        trainer = self._trainer(job, microbatches, len(train))
        progress = Progress(microbatches, self.quiet)
        with RunDirectory(out, self.schedule.name) as directory, progress:
            directory.write_inputs(self.schedule, self.spec, environment)
            loop = _Loop(trainer, train, test, directory, progress, self.spec)
            started = time.perf_counter()
            loop.run(microbatches)
            wall = time.perf_counter() - started
            summary = self._summary(trainer, loop, wall, directory)
            directory.write_summary(summary)
        return summary

    def _microbatches(self, per_epoch: int) -> int:
        if self.steps is not None:
            return self.steps * self.schedule.update.every
        return (self.epochs or self.spec.train.epochs) * per_epoch

    def _trainer(self, job: Job, microbatches: int, per_epoch: int) -> Trainer:
        every = self.schedule.update.every
        lr = optimizer_spec(job.optimizer).lr
        rate = make_learning_rate(lr, self.spec.train.lr, -(-microbatches // every), per_epoch / every)
        return Trainer(
            job.model,
            self.schedule,
            job.loss,
            job.optimizer,
            self.backend,
            self.stages,
            rate,
            intra_op_threads=self.spec.train.intra_op_threads,
        )

    def _summary(self, trainer: Trainer, loop: _Loop, wall: float, directory: RunDirectory) -> dict[str, Any]:
        return {
            "schema": "asyncpipe.run/1",
            "schedule": self.schedule.name,
            "job": self.spec.name,
            "backend": resolve_backend(self.backend),
            "device": self.device,
            "stages": len(trainer.parts),
            "intra_op_threads": loop.intra_op_threads,
            "steps": trainer.updates,
            "samples": loop.samples,
            "wall_s": wall,
            "samples_per_s": loop.samples / loop.training_s,
            "train_loss": loop.train_loss,
            "eval": loop.evaluation,
            "staleness": [float(value) for value in trainer.predicted_staleness],
            "staleness_measured": trainer.staleness.summary(),
            "params_sha256": parameters_sha256(trainer.model),
            "out": str(directory.path),
        }

    def result_text(self, summary: dict[str, Any]) -> str:
        """The result for people."""
        accuracy = summary["eval"]["accuracy"]
        shown = f"test accuracy {100 * accuracy:.2f} %, " if accuracy is not None else ""
        measured = summary["staleness_measured"]
        stale = " ".join("-" if value is None else f"{value:.2f}" for value in measured["apply"])
        most = " ".join(max(counts, key=int, default="-") for counts in measured["histogram"])
        stages = f"{summary['stages']} stage{'s' * (summary['stages'] != 1)}"
        planned = " ".join(f"{value:g}" for value in summary["staleness"])
        return (
            f"{summary['schedule']} on {summary['job']}, {summary['backend']}, {stages}:"
            f" {shown}test loss {summary['eval']['loss']:.4f}\n"
            f"{summary['steps']} updates, {summary['samples']} samples in {summary['wall_s']:.1f} s"
            f" ({summary['samples_per_s']:.0f} samples/s while training)\n"
            f"staleness per stage: measured {stale}, at most {most}; planned {planned}\n"
            f"run directory {summary['out']}"
        )


@dataclass
class _Loop:
    """Epochs with their evaluations; each evaluation drains the pipeline."""

    trainer: Trainer
    train: Batches
    test: Batches
    directory: RunDirectory
    progress: Progress
    spec: JobSpec
    samples: int = 0
    training_s: float = 0.0
    train_loss: float = math.nan
    intra_op_threads: int = 1
    evaluation: Evaluation | None = None

    def run(self, microbatches: int) -> None:
        per_segment = len(self.train) * self.spec.train.evaluate_every
        while self.trainer.microbatches < microbatches:
            done = self.trainer.microbatches
            self._segment(done, min(per_segment, microbatches - done))

    def _segment(self, done: int, count: int) -> None:
        first_update = self.trainer.updates
        report = self.trainer.fit(self._batches(done), count, self._poll)
        self.samples += report.samples
        self.training_s += report.wall_s
        self.train_loss = report.train_loss
        self.intra_op_threads = report.intra_op_threads
        self.evaluation = self.trainer.evaluate(self.test.batches())
        self._write(done, first_update, report.losses)

    def _batches(self, done: int) -> Iterator[tuple[Tensor, Tensor]]:
        """The data from microbatch `done` on, epoch after epoch."""
        epoch, skip = divmod(done, len(self.train))
        while True:
            yield from self.train.batches(epoch, skip)
            epoch, skip = epoch + 1, 0

    def _poll(self, execution: Execution) -> None:
        self.progress.update(self.trainer.microbatches + execution.finished, execution.recent_loss)

    def _write(self, done: int, first_update: int, losses: tuple[float, ...]) -> None:
        assert self.evaluation is not None
        every = self.trainer.compiled.diagram.every if self.trainer.compiled else 1
        for i, loss in enumerate(losses):
            update = first_update + i // every
            self.directory.metric(
                kind="microbatch",
                attempt=1,
                step=update,
                microbatch=done + i,
                loss=loss,
                lr=self.trainer.rate.at(update),
            )
        self.directory.metric(
            kind="evaluation",
            attempt=1,
            step=self.trainer.updates,
            samples=self.samples,
            train_s=self.training_s,
            **self.evaluation,
        )
        self.directory.flush()
        accuracy = self.evaluation["accuracy"]
        shown = "" if accuracy is None else f"  test accuracy {100 * accuracy:.2f} %"
        epoch = self.trainer.microbatches / len(self.train)
        self.progress.line(
            f"epoch {epoch:g}  loss {self.train_loss:.4f}  test loss {self.evaluation['loss']:.4f}{shown}"
        )


def parameters_sha256(model: nn.Module) -> str:
    """A fingerprint of every parameter and buffer: names, shapes and bits."""
    digest = hashlib.sha256()
    for name, tensor in model.state_dict().items():
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.detach().contiguous().view(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()

"""The segments of a run with what follows each: the evaluation, and now and then a probe of the gradient."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

from torch import Tensor

from asyncpipe.data.batches import Batches
from asyncpipe.runtime.evaluation import Evaluation
from asyncpipe.runtime.replicas import ReplicaGroup
from asyncpipe.runtime.rows import Rows
from asyncpipe.training.fit_report import FitReport
from asyncpipe.training.gradient_bias import probe
from asyncpipe.training.gradient_probe import GradientConstants
from asyncpipe.training.metrics import MetricsLog
from asyncpipe.training.progress import Progress
from asyncpipe.training.trainer import Trainer
from asyncpipe.training.virtual_time import Pace

__all__ = ["Loop", "epochs_text"]

_PROBE_BATCHES = 4
_PROBE_EVERY = 400
"""Microbatches from one probe of the gradient to the next: its eleven gradients are then less than three per cent."""


@dataclass
class Loop:
    """Epochs with their evaluations; each evaluation drains the pipeline."""

    trainer: Trainer
    train: Batches
    test: Batches
    log: MetricsLog
    progress: Progress
    target: float | None
    train_loss: float = math.nan
    intra_op_threads: int = 1
    evaluation: Evaluation | None = None
    pace: Pace | None = None
    best: dict[str, Any] | None = None
    """The best evaluation: by accuracy, or where there is none by loss; with the samples and times so far."""
    reached: dict[str, Any] | None = None
    """The first evaluation with the target accuracy."""
    probes: list[GradientConstants] = field(default_factory=list)
    probed: int = 0

    @property
    def samples(self) -> int:
        return self.log.samples

    def run(self, segments: Sequence[int]) -> None:
        """`segments`: the microbatches of each."""
        for number, count in enumerate(segments):
            self._segment(count)
            self._probe(ended=number == len(segments) - 1)

    def _train(self, count: int) -> FitReport:
        """What lies in one phase of the schedule."""
        self.log.begin()
        report = self.trainer.fit(self._batches(self.trainer.microbatches), count, self._poll)
        self.log.end(report.wall_s, report.virtual_time)
        return report

    def _segment(self, count: int) -> None:
        reports = [self._train(part) for part in self.trainer.parts_of(count)]
        report = FitReport.of(reports)
        self.pace = self.pace + report.pace if self.pace and report.pace else report.pace
        self.train_loss = report.train_loss
        self.intra_op_threads = report.intra_op_threads
        self.evaluation = self.trainer.evaluate(self.test.batches())
        self.log.evaluation(self.evaluation)
        self._keep(self.evaluation)
        self._say(self.evaluation)

    def _keep(self, result: Evaluation) -> None:
        """Remembers the best evaluation, and the first that reached the target."""
        now = {**result, "step": self.trainer.updates, "samples": self.samples, **self.log.times(self.log.spent)}
        if self.best is None or _merit(now) > _merit(self.best):
            self.best = now
        accuracy = result["accuracy"]
        if self.reached is None and self.target is not None and accuracy is not None and accuracy >= self.target:
            self.reached = now

    def _probe(self, ended: bool) -> None:
        """The constants of the gradient, as often as costs a few per cent of the training, and at its end."""
        done = self.trainer.microbatches
        if not self.trainer.measure_every or not (ended or done - self.probed >= _PROBE_EVERY):
            return
        self.probed = done
        found = probe(self.trainer, list(islice(self._batches(done), _PROBE_BATCHES)))
        if found is not None:
            self.probes.append(found)
            self.log.constants(found)

    def _batches(self, done: int) -> Iterator[tuple[Tensor | Rows, Tensor | Rows]]:
        """The data from microbatch `done` on, epoch after epoch; not gathered where devices may do that."""
        epoch, skip = divmod(done, len(self.train))
        split = self.train.split
        gathers = self.trainer.platform.gathers and split.prepare is None
        while True:
            if gathers:
                chosen = self.train.chosen(epoch, skip)
                yield from ((Rows(split.inputs, rows), Rows(split.targets, rows)) for rows in chosen)
            else:
                yield from self.train.batches(epoch, skip)
            epoch, skip = epoch + 1, 0

    def _poll(self, group: ReplicaGroup) -> None:
        self.log.poll(group)
        first = group.executions[0]
        self.progress.update(self.trainer.microbatches + first.finished * len(group.executions), first.recent_loss)

    def _say(self, result: Evaluation) -> None:
        accuracy = result["accuracy"]
        shown = "" if accuracy is None else f"  test accuracy {100 * accuracy:.2f} %"
        epoch = self.trainer.microbatches / len(self.train)
        self.progress.line(
            f"epoch {epochs_text(epoch)}  loss {self.train_loss:.4f}  test loss {result['loss']:.4f}{shown}"
        )


def epochs_text(count: float) -> str:
    """`2`, `0.5`, `0.0077`: four decimals at most."""
    return f"{count:.4f}".rstrip("0").rstrip(".")


def _merit(evaluation: Mapping[str, Any]) -> float:
    """More is better."""
    accuracy: float | None = evaluation["accuracy"]
    return -float(evaluation["loss"]) if accuracy is None else accuracy

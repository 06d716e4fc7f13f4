"""metrics.jsonl: the rows of a run, written while it goes. docs/metrics.md tells what each key means."""

from __future__ import annotations

from collections import Counter
from typing import Any

from asyncpipe.runtime.busy import BusyMeter
from asyncpipe.runtime.clock import Moment
from asyncpipe.runtime.evaluation import Evaluation
from asyncpipe.runtime.replicas import ReplicaGroup
from asyncpipe.training.directory import RunDirectory
from asyncpipe.training.gradient_probe import GradientConstants
from asyncpipe.training.trainer import Trainer

__all__ = ["MetricsLog"]


class MetricsLog:
    """Writes each row once its values are known, microbatches in order; `batch` is the samples of a microbatch.

    Between `begin` and `end` lies one run: what is trained until the pipeline drains for an evaluation, or for the
    next phase of the schedule.
    """

    def __init__(self, directory: RunDirectory, trainer: Trainer, batch: int, meter: BusyMeter | None = None) -> None:
        self.directory = directory
        self.trainer = trainer
        self.batch = batch
        self.meter = meter
        self.spent = Moment(0.0, None)
        """Training time of the runs before this one."""
        self._staleness: list[Counter[int]] = []
        """At the last evaluation."""
        self.begin()

    def begin(self) -> None:
        """A run starts."""
        self._microbatches, self._updates = self.trainer.microbatches, self.trainer.updates
        self._written = 0
        self._sampled: Counter[int] = Counter()

    def end(self, wall_s: float, virtual_time: float | None) -> None:
        """A run has taken so long."""
        self.spent = self._after(Moment(wall_s, virtual_time))

    def poll(self, group: ReplicaGroup) -> None:
        """Writes what is known by now of the run."""
        replicas = len(group.executions)
        losses = len(group.executions[0].losses) * replicas
        while self._written < losses:
            own, replica = divmod(self._written, replicas)
            moment = group.executions[replica].moments[own]
            if moment is None:
                break
            update = self._updates + own // group.program.every
            self._microbatch(update, group.executions[replica].losses[own], moment)
        for replica in range(replicas):
            self._samples(group, replica)
        self._streams(group)
        self.directory.flush()

    def _streams(self, group: ReplicaGroup) -> None:
        """How long each stream was at work since the last look."""
        found = self.meter.take() if self.meter else None
        if found is not None:
            step = self._updates + self._written // len(group.executions) // group.program.every
            self._row("streams", step, seconds=found.seconds, busy_s=found.busy_s)

    def _microbatch(self, update: int, loss: float, moment: Moment) -> None:
        number = self._microbatches + self._written
        self._written += 1
        self._row(
            "microbatch",
            update,
            microbatch=number,
            samples=(number + 1) * self.batch,
            **self.times(self._after(moment)),
            loss=loss,
            lr=self.trainer.rate.at(update),
        )

    def _samples(self, group: ReplicaGroup, replica: int) -> None:
        """The divergence that was measured since the last look."""
        found = group.executions[replica].divergence.found
        for sample in found[self._sampled[replica] : len(found)]:
            self._sampled[replica] += 1
            values = sample._asdict()
            number = values.pop("microbatch") * len(group.executions) + replica
            step = self._updates + values.pop("update")
            self._row("divergence", step, microbatch=number, replica=replica, **values)

    def evaluation(self, result: Evaluation) -> None:
        """The model at the end of a segment, and the staleness since the last evaluation."""
        self._row("evaluation", self.trainer.updates, samples=self.samples, **self.times(self.spent), **result)
        now = self.trainer.staleness.everything
        before = self._staleness or [Counter[int]()] * len(now)
        new = [_named(counts - earlier) for counts, earlier in zip(now, before, strict=True)]
        self._staleness = [counts.copy() for counts in now]
        self._row("staleness", self.trainer.updates, samples=self.samples, histogram=new)
        self.directory.flush()

    def constants(self, found: GradientConstants) -> None:
        """What a probe of the gradient found."""
        self._row("gradient", self.trainer.updates, samples=self.samples, **found._asdict())
        self.directory.flush()

    @property
    def samples(self) -> int:
        """Trained on so far, at the end of a segment."""
        return self.trainer.microbatches * self.batch

    def _after(self, moment: Moment) -> Moment:
        virtual = None if moment.virtual is None else (self.spent.virtual or 0.0) + moment.virtual
        return Moment(self.spent.seconds + moment.seconds, virtual)

    @staticmethod
    def times(moment: Moment) -> dict[str, float | None]:
        return {"train_s": moment.seconds, "virtual_time": moment.virtual}

    def _row(self, kind: str, step: int, **values: Any) -> None:
        self.directory.metric(kind=kind, attempt=1, step=step, **values)


def _named(counts: Counter[int]) -> dict[str, int]:
    return {str(value): counts[value] for value in sorted(counts)}

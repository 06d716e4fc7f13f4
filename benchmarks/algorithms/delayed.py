"""One training with a late worker, for so much virtual time: how many microbatches, and how good the model is then."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from contestants import Contestant, simulated_rate
from job import UPDATE_BATCH, Job
from journal import Journal
from observed import STAGES, Observer, VirtualClock, split_batches
from plan import TUNING_SEED
from trial import finite, optimizer_of

from asyncpipe import Trainer
from asyncpipe.errors import AsyncpipeError, NumericalError
from asyncpipe.ir import Action

__all__ = ["DelayCurve", "DelayTrial"]


@dataclass(frozen=True)
class DelayTrial:
    """`delay` and `budget` in T; a constant learning rate, since nobody knows how many updates fit into the budget."""

    method: str
    delay: float
    lr: float
    seed: int
    budget: float


class _TimeIsUpError(AsyncpipeError):
    """Ends a run from its hook."""


class _Deadline(Observer):
    """Tests the model on the whole test split once the budget is spent, and ends the run."""

    budget = math.inf
    final: float | None = None

    def __call__(self, stream: int, action: Action) -> None:
        super().__call__(stream, action)
        if self.clock.now >= self.budget:
            self.final = self.accuracy_now(self.test)
            raise _TimeIsUpError


def run_delayed(trial: DelayTrial, contestant: Contestant, job: Job) -> dict[str, Any]:
    """What came out, as plain values; `accuracy` is None where the loss overflowed."""
    schedule, started = contestant.schedule(), time.perf_counter()
    trainer = Trainer(
        job.model(trial.seed),
        schedule,
        optimizer=optimizer_of(trial.method, trial.lr),
        backend="serial",
        stages=STAGES,
        intra_op_threads=1,
        delays={contestant.late: f"{trial.delay:g}T"} if trial.delay else {},
    )
    replicas = schedule.replicas.count
    each = math.ceil(trial.budget * contestant.rate(0.0) / replicas) + 16
    sample, _ = next(job.batches(UPDATE_BATCH, trial.seed))
    trainer.prepare(sample)
    clock = VirtualClock(trainer, each, UPDATE_BATCH)
    observer = _Deadline(trainer, clock, split_batches(job.test), UPDATE_BATCH, each * replicas * UPDATE_BATCH + 1)
    observer.budget = trial.budget
    trainer.hook = observer
    found: dict[str, Any] = asdict(trial)
    try:
        trainer.fit(job.batches(UPDATE_BATCH, trial.seed), each * replicas)
    except _TimeIsUpError:
        pass
    except NumericalError as error:
        found["diverged"] = str(error)
    rates = [_pace(times) for times in observer.losses.values()]
    found |= {"accuracy": observer.final, "samples": observer.samples, "rate": sum(rates)}
    return found | {"wall_s": time.perf_counter() - started}


def _pace(times: Sequence[float]) -> float:
    """Microbatches per T of one stream, between its first and its last loss."""
    return (len(times) - 1) / (times[-1] - times[0]) if len(times) > 1 else 0.0


@dataclass(frozen=True)
class DelayCurve:
    """Contestants at all delays, by way of the journal."""

    job_name: str
    job: Job
    journal: Journal
    budget: float
    seeds: int
    rates: Sequence[float]
    delays: Sequence[float]

    def trial(self, contestant: Contestant, delay: float, lr: float, seed: int) -> dict[str, Any]:
        trial = DelayTrial(contestant.name, delay, lr, seed, self.budget)
        key = {"job": self.job_name, "overrides": list(contestant.overrides), **asdict(trial)}
        return self.journal.get(key, lambda: self._run(trial, contestant))

    def _run(self, trial: DelayTrial, contestant: Contestant) -> dict[str, Any]:
        found = run_delayed(trial, contestant, self.job)
        shown = "diverged" if found["accuracy"] is None else f"{found['accuracy']:.2f} %"
        where = f"{trial.method} delay {trial.delay:g}T lr {trial.lr:g} seed {trial.seed}"
        print(f"{where}: {shown}, {found['wall_s']:.1f} s", flush=True)
        return found

    def learning_rate(self, contestant: Contestant) -> float:
        """The best without delay, of equals the smaller one; all delays take it."""
        trials = [self.trial(contestant, 0.0, lr, TUNING_SEED) for lr in self.rates]
        return float(min(trials, key=lambda found: (-finite(found["accuracy"]), found["lr"]))["lr"])

    def point(self, contestant: Contestant, delay: float) -> dict[str, Any]:
        """Throughput by closed form, by the simulator and in the run, in microbatches per T, and accuracies by seed."""
        lr = self.learning_rate(contestant)
        found = [self.trial(contestant, delay, lr, seed) for seed in range(self.seeds)]
        return {
            "lr": lr,
            "closed_form": contestant.rate(delay),
            "simulated": simulated_rate(contestant, delay),
            "run": found[0]["rate"],
            "samples": found[0]["samples"],
            "accuracy": [each["accuracy"] for each in found],
        }

    def points(self, contestants: Sequence[Contestant]) -> dict[str, dict[float, dict[str, Any]]]:
        """By method and delay."""
        return {c.name: {delay: self.point(c, delay) for delay in self.delays} for c in contestants}

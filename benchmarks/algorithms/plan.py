"""Which trials are run: a learning rate is chosen for each method by the same budget, then judged on other seeds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from job import Job
from journal import Journal
from observed import STAGES
from trial import Trial, finite, run_trial

from asyncpipe.compiler import compile_schedule
from asyncpipe.schedule import Schedule, load

__all__ = ["TUNING_SEED", "Plan", "is_exact"]

TUNING_SEED = 100
"""None of those that are judged."""


def learning_rates(method: str, schedule: Schedule, rates: Sequence[float]) -> list[float]:
    """The rates of a method by those of SGD: a sum over n microbatches gets an n-th of them, NAdam three tenths."""
    if method == "nesterov-pp":
        return [lr * 0.3 for lr in rates]
    parts = schedule.update.every if schedule.update.reduce == "sum" else 1
    return [lr / parts for lr in rates]


def is_exact(schedule: Schedule) -> bool:
    """Whether it computes what plain SGD computes, up to the order of sums: nothing stale, one model, one loss."""
    plain = schedule.replicas.count == 1 and schedule.aux.gradient == "chain" and schedule.update.scope == "all"
    return plain and not any(compile_schedule(schedule, STAGES).staleness.apply)


@dataclass(frozen=True)
class Plan:
    """Trials of one job, by way of the journal."""

    job_name: str
    job: Job
    journal: Journal
    samples: int
    rates: Sequence[float]

    def trial(self, method: str, lr: float, seed: int) -> dict[str, Any]:
        trial = Trial(method, round(lr, 9), seed, self.samples)
        return self.journal.get({"job": self.job_name, **asdict(trial)}, lambda: self._run(trial))

    def _run(self, trial: Trial) -> dict[str, Any]:
        found = run_trial(trial, load(trial.method), self.job)
        accuracy = found["accuracy"]
        shown = "diverged" if accuracy is None else f"{accuracy:.2f} %"
        print(f"{trial.method} lr {trial.lr:g} seed {trial.seed}: {shown}, {found['wall_s']:.1f} s", flush=True)
        return found

    def tune(self, method: str) -> list[dict[str, Any]]:
        """One trial for each learning rate, the best first; of equals the smaller rate. All exact ones are sgd."""
        schedule = load(method)
        tuned = "sgd" if is_exact(schedule) else method
        trials = [self.trial(tuned, lr, TUNING_SEED) for lr in learning_rates(tuned, schedule, self.rates)]
        return sorted(trials, key=lambda found: (-finite(found["accuracy"]), found["lr"]))

    def judge(self, method: str, seeds: int) -> list[dict[str, Any]]:
        """Trials with the chosen learning rate, one for each seed from 0 on."""
        return [self.trial(method, self.tune(method)[0]["lr"], seed) for seed in range(seeds)]

    def pairs(
        self, methods: Sequence[str], rates: Sequence[float], seeds: int
    ) -> dict[float, dict[str, list[float | None]]]:
        """By learning rate and method the accuracies of the same seeds."""
        return {
            lr: {method: [self.trial(method, lr, seed)["accuracy"] for seed in range(seeds)] for method in methods}
            for lr in sorted(rates)
        }

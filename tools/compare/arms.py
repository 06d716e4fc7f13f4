"""The two sides of a comparison: runs with the same seeds, of one job."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from asyncpipe.errors import UsageError
from asyncpipe.tools.report.runs import Run, find_runs

if TYPE_CHECKING:
    from asyncpipe.schedule.job import JobSpec
    from asyncpipe.training import TrainingRun

__all__ = ["Arm", "Pairs", "differences_of_jobs", "pair_arms", "read_arm", "refuse_different_jobs", "train_arms"]

_WARM_UP_STEPS = 8
Make = Callable[[int, int | None], "TrainingRun"]
"""(seed, steps or None for all of them) to a run."""


@dataclass(frozen=True)
class Arm:
    name: str
    runs: tuple[Run, ...]
    notes: tuple[str, ...] = ()
    """On what was left out of the folder."""


@dataclass(frozen=True)
class Pairs:
    """Two arms whose runs correspond, seed by seed."""

    a: Arm
    b: Arm

    @property
    def seeds(self) -> list[int]:
        return [run.seed for run in self.a.runs]

    @property
    def runs(self) -> tuple[Run, ...]:
        return (*self.a.runs, *self.b.runs)

    @property
    def notes(self) -> list[str]:
        return [*self.a.notes, *self.b.notes]

    @property
    def is_virtual(self) -> bool:
        return self.a.runs[0].is_virtual


def read_arm(place: str) -> Arm:
    """The finished runs in a folder, of one schedule; UsageError where there are others."""
    found = find_runs([place])
    runs = found.runs
    if runs[0].summary is None:
        raise UsageError(f"{place}: none of its runs has ended", "wait for them, or run again those that failed")
    names = sorted({run.schedule.name for run in runs})
    if len(names) > 1:
        raise UsageError(f"{place}: holds runs of {', '.join(names)}", "name a folder with the runs of one schedule")
    seeds = [run.seed for run in runs]
    twice = next((seed for seed in seeds if seeds.count(seed) > 1), None)
    if twice is not None:
        raise UsageError(f"{place}: has several runs with seed {twice}", "one run for each seed can be paired")
    return Arm(names[0], tuple(sorted(runs, key=lambda run: run.seed)), tuple(found.notes))


def train_arms(
    makes: Sequence[Make], seeds: Sequence[int], out: Path, environment: dict[str, object], say: Callable[[str], None]
) -> list[Path]:
    """Trains both arms in turns, the one first and then the other, so that drifts of the machine hit both alike.

    On real threads each runs a few updates beforehand, which are thrown away. The folders of the arms.
    """
    folders = [out / letter for letter in "ab"]
    for make in makes:
        run = make(seeds[0], _WARM_UP_STEPS)
        if run.backend != "serial":
            with TemporaryDirectory() as folder:
                run.execute(folder, environment)
    for number, seed in enumerate(seeds):
        for arm in (0, 1) if number % 2 == 0 else (1, 0):
            run = makes[arm](seed, None)
            summary = run.execute(str(folders[arm] / f"seed-{seed}"), environment)
            accuracy = summary["eval"]["accuracy"]
            shown = f"loss {summary['eval']['loss']:.4f}" if accuracy is None else f"accuracy {100 * accuracy:.2f} %"
            say(f"seed {seed}: {summary['schedule']}  test {shown}  {summary['train_s']:.1f} s")
    return folders


def pair_arms(a: Arm, b: Arm) -> Pairs:
    """The runs whose seed both arms have; UsageError where they cannot be compared."""
    common = {run.seed for run in a.runs} & {run.seed for run in b.runs}
    if len(common) < 2:
        found = [", ".join(str(run.seed) for run in arm.runs) for arm in (a, b)]
        message = f"expected at least two seeds that both have, found {found[0]} and {found[1]}"
        raise UsageError(message, "run both with the same seeds, as in --seed 0, --seed 1, --seed 2")
    names = [a.name, b.name] if a.name != b.name else [f"{a.name} (A)", f"{b.name} (B)"]
    arms = [
        replace(arm, name=name, runs=tuple(run for run in arm.runs if run.seed in common))
        for name, arm in zip(names, (a, b), strict=True)
    ]
    _refuse_different_runs([run for arm in arms for run in arm.runs])
    return Pairs(*arms)


def _refuse_different_runs(runs: Sequence[Run]) -> None:
    first = runs[0]
    for run in runs[1:]:
        refuse_different_jobs(str(first.folder), first.job, str(run.folder), run.job)
        if run.is_virtual != first.is_virtual:
            message = f"{first.folder} has {_time(first)} and {run.folder} {_time(run)}"
            raise UsageError(message, "run both on one back end")


def refuse_different_jobs(a: str, own: JobSpec, b: str, other: JobSpec) -> None:
    """UsageError where the model, the data or the loss of `a` and `b` differ."""
    parts = [part for part in ("model", "data", "loss") if getattr(own, part) != getattr(other, part)]
    if parts:
        message = f"{a} and {b} have different jobs: their {' and '.join(parts)} differ{'s' * (len(parts) == 1)}"
        raise UsageError(message, "compare on one job (--job); the optimizer alone may differ")


def _time(run: Run) -> str:
    return "virtual time" if run.is_virtual else "real time"


def differences_of_jobs(pairs: Pairs) -> Iterator[str]:
    """What else differs between the arms, and so is compared too."""
    a, b = pairs.a.runs[0], pairs.b.runs[0]
    parts: dict[str, Callable[[Run], object]] = {
        "optimizer": lambda run: run.job.optimizer,
        "train.batch": lambda run: run.job.train.batch,
        "train.epochs": lambda run: run.job.train.epochs,
        "train.lr": lambda run: run.job.train.lr,
        "delays": lambda run: run.disturbed,
        "stages": lambda run: run.stages,
        "intra_op_threads": lambda run: run.intra_op_threads,
    }
    yield from (name for name, part in parts.items() if part(a) != part(b))

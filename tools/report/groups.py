"""Runs that differ only in their seed, as one: means and spreads over seeds."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from asyncpipe.tools.report.chart import Curve
from asyncpipe.tools.report.runs import Row, Run

__all__ = ["Group", "Spread", "group_runs", "repeated_seeds", "spread"]

_BINS = 100
"""A curve of losses has at most so many points, each the mean of its neighbours."""
Point = tuple[float, float]


@dataclass(frozen=True)
class Spread:
    """Of one number over runs; `deviation` is the sample standard deviation, None for a single run."""

    mean: float
    deviation: float | None
    runs: int


def spread(values: Iterable[float | None]) -> Spread | None:
    """Of those that are there; None where none is."""
    known = [value for value in values if value is not None]
    if not known:
        return None
    mean = math.fsum(known) / len(known)
    squares = math.fsum((value - mean) ** 2 for value in known)
    return Spread(mean, math.sqrt(squares / (len(known) - 1)) if len(known) > 1 else None, len(known))


@dataclass(frozen=True)
class Group:
    """Runs of one schedule on one job and back end, ordered by seed."""

    name: str
    runs: tuple[Run, ...]

    @property
    def is_virtual(self) -> bool:
        return self.runs[0].is_virtual

    def evaluations(self, y: str, by_time: bool) -> Curve | None:
        """The mean over runs of each evaluation's `y`, at the mean of its samples or times; None where nothing is."""
        return self._curve([_points(run, run.evaluations, y, by_time) for run in self.runs])

    def losses(self, by_time: bool) -> Curve | None:
        """As `evaluations`, of the training loss, in bins of microbatches."""
        rows = [run.rows.get("microbatch", ()) for run in self.runs]
        width = max(1, math.ceil(max(map(len, rows), default=0) / _BINS))
        points = [_points(run, own, "loss", by_time) for run, own in zip(self.runs, rows, strict=True)]
        return self._curve([_binned(each, width) for each in points])

    def divergence(self) -> Curve | None:
        """||theta_B - theta_F|| of whole microbatches against samples."""
        return self._curve([_divergence(run) for run in self.runs])

    def staleness(self) -> tuple[Mapping[int, float], ...]:
        """By stage the share of microbatches of all runs with each staleness."""
        counts: list[dict[int, int]] = []
        for run in self.runs:
            for row in run.rows.get("staleness", ()):
                counts += [{} for _ in range(len(row["histogram"]) - len(counts))]
                for own, histogram in zip(counts, row["histogram"], strict=False):
                    for value, count in histogram.items():
                        own[int(value)] = own.get(int(value), 0) + count
        return tuple({value: count / sum(own.values()) for value, count in own.items()} for own in counts)

    def summary(self, *keys: str) -> Spread | None:
        """Of a value in summary.json, of the runs that have it."""
        return spread(_inside(run.summary, keys) for run in self.runs)

    def of_stage(self, stage: int, *keys: str) -> Spread | None:
        """Of a list per stage in summary.json."""
        lists = [_inside(run.summary, keys) for run in self.runs]
        return spread(values[stage] for values in lists if values is not None)

    def until(self, accuracy: float, by_time: bool) -> Spread | None:
        """Samples or time to the first evaluation with that accuracy; of the runs that came to it."""
        return spread(
            next((x for x, y in _points(run, run.evaluations, "accuracy", by_time) if y >= accuracy), None)
            for run in self.runs
        )

    def _curve(self, runs: Sequence[Sequence[Point]]) -> Curve | None:
        columns = [spread_of_points([run[i] for run in runs if i < len(run)]) for i in range(max(map(len, runs)))]
        if not columns:
            return None
        x, mean, low, high = zip(*columns, strict=True)
        return Curve(self.name, x, mean, low, high)


def spread_of_points(points: Sequence[Point]) -> tuple[float, float, float, float]:
    """(mean x, mean y, y less and plus one deviation)."""
    x, y = spread(x for x, _ in points), spread(y for _, y in points)
    assert x is not None
    assert y is not None
    around = y.deviation or 0.0
    return x.mean, y.mean, y.mean - around, y.mean + around


def _points(run: Run, rows: Sequence[Row], y: str, by_time: bool) -> list[Point]:
    found = []
    for row in rows:
        x = run.time_of(row) if by_time else float(row["samples"])
        if x is not None and row[y] is not None:
            found.append((x, float(row[y])))
    return found


def _binned(points: Sequence[Point], width: int) -> list[Point]:
    """The means of each `width` points, and of what is left."""
    parts = [points[i : i + width] for i in range(0, len(points), width)]
    return [(sum(x for x, _ in part) / len(part), sum(y for _, y in part) / len(part)) for part in parts]


def _divergence(run: Run) -> list[Point]:
    squares: dict[int, float] = {}
    for row in run.rows.get("divergence", ()):
        squares[row["microbatch"]] = squares.get(row["microbatch"], 0.0) + row["forward_backward"] ** 2
    batch = run.job.train.batch
    return [((microbatch + 1) * batch, math.sqrt(value)) for microbatch, value in sorted(squares.items())]


def _inside(summary: Any, keys: Sequence[str]) -> Any:
    """A value in nested mappings; None where one of them is missing."""
    for key in keys:
        summary = None if summary is None else summary.get(key)
    return summary


_DIFFERENCES: tuple[Callable[[Run], str], ...] = (
    lambda run: f", {run.disturbed}" if run.disturbed else "",
    lambda run: f", {run.backend}",
    lambda run: f", {run.stages or '?'} stage{'s' * (run.stages != 1)}",
    lambda run: f", {run.intra_op_threads or '?'} intra-op thread{'s' * (run.intra_op_threads != 1)}",
    lambda run: f" on {run.job_name}",
    lambda run: f", {run.job.optimizer.use} " + " ".join(f"{k}={v}" for k, v in run.job.optimizer.options.items()),
    lambda run: f" in {run.folder}",
)
"""What is added to the names of groups that would be called alike, where it differs between them."""


def group_runs(runs: Sequence[Run]) -> list[Group]:
    """The groups in the order of their first runs; each name says what tells it from the others."""
    by_key: dict[tuple[object, ...], list[Run]] = {}
    for run in runs:
        key = (str(run.schedule), run.stages, run.same_job, run.backend, run.disturbed, run.intra_op_threads)
        by_key.setdefault(key, []).append(run)
    groups = [sorted(group, key=lambda run: run.seed) for group in by_key.values()]
    names = [group[0].schedule.name for group in groups]
    for describe in _DIFFERENCES:
        words = [describe(group[0]) for group in groups]
        names = [
            name + word * (len({w for n, w in zip(names, words, strict=True) if n == name}) > 1)
            for name, word in zip(names, words, strict=True)
        ]
    return [Group(name, tuple(group)) for name, group in zip(names, groups, strict=True)]


def repeated_seeds(groups: Sequence[Group]) -> Iterator[str]:
    """A note on each seed that a group has several times: such runs are not independent."""
    for group in groups:
        for seed, count in Counter(run.seed for run in group.runs).items():
            if count > 1:
                folders = ", ".join(str(run.folder) for run in group.runs if run.seed == seed)
                yield (
                    f"{group.name}: {count} runs with seed {seed} ({folders}); each counts, so that the spread"
                    " may be too small: name one of them"
                )

"""Run directories, read back: what was trained, and every row of metrics.jsonl."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from asyncpipe.compiler import compile_schedule
from asyncpipe.errors import ScheduleError, UsageError, UserError
from asyncpipe.ir import Op, Program
from asyncpipe.schedule import Schedule, load
from asyncpipe.schedule.job import JobSpec, job_text, read_job
from asyncpipe.schedule.source import Report

__all__ = ["Found", "Run", "find_runs", "read_run"]

_METRICS, _SUMMARY, _RESOLVED = "metrics.jsonl", "summary.json", "resolved.yaml"
_DAMAGED = "the file is damaged: run it again, or move its folder away"
Row = Mapping[str, Any]
_KEYS = {
    "microbatch": ("samples", "train_s", "virtual_time", "loss"),
    "evaluation": ("samples", "train_s", "virtual_time", "loss", "accuracy"),
    "divergence": ("microbatch", "forward_backward"),
    "staleness": ("histogram",),
}
"""What is read of the rows of each kind."""
_SUMMARY_KEYS = ("job", "backend", "stages", "steps", "samples", "delays", "stragglers", "eval", "staleness_measured")


@dataclass(frozen=True)
class Run:
    """One run directory; `summary` is None where the run has not ended, or was killed."""

    folder: Path
    schedule: Schedule
    job: JobSpec
    summary: Mapping[str, Any] | None
    environment: Mapping[str, Any]
    rows: Mapping[str, Sequence[Row]]
    """By kind, in the order of the file."""

    @property
    def seed(self) -> int:
        return self.job.train.seed

    @property
    def job_name(self) -> str:
        return self.summary["job"] if self.summary else self.job.name

    @property
    def evaluations(self) -> Sequence[Row]:
        return self.rows.get("evaluation", ())

    @cached_property
    def is_virtual(self) -> bool:
        """Whether it has virtual time, which then is the time to compare by."""
        return any(row["virtual_time"] is not None for row in (*self.evaluations, *self.rows.get("microbatch", ())))

    @property
    def backend(self) -> str:
        return self.summary["backend"] if self.summary else "serial" if self.is_virtual else "threads"

    @property
    def intra_op_threads(self) -> int | None:
        """Threads inside each operation; None where neither summary nor job tell."""
        stated = self.job.train.intra_op_threads
        return stated if self.summary is None else self.summary.get("intra_op_threads", stated)

    @property
    def disturbed(self) -> str:
        """The delays and stragglers, as text."""
        words = [] if self.summary is None else [*self.summary["delays"], *self.summary["stragglers"]]
        return ", ".join(map(str, words))

    @property
    def stages(self) -> int | None:
        """None for an unfinished run that has not come to its first evaluation."""
        histograms = [row["histogram"] for row in self.rows.get("staleness", ())]
        return self.summary["stages"] if self.summary else len(histograms[0]) if histograms else None

    @cached_property
    def program(self) -> Program | None:
        """What was run, without an end; None where the number of stages is not known."""
        return None if self.stages is None else compile_schedule(self.schedule, self.stages).program()

    @cached_property
    def time_unit(self) -> float | None:
        """T in units of cost (1 where forwards cost nothing); None on real time, or where it is not known."""
        if not self.is_virtual or self.program is None:
            return None
        return float(sum(self.program.costs[Op.F]) * self.program.unit) or 1.0

    def time_of(self, row: Row) -> float | None:
        """Virtual time in units of T, which counts equally with any number of stages, or seconds of training."""
        if not self.is_virtual:
            return float(row["train_s"])
        unit = self.time_unit
        return row["virtual_time"] / unit if unit else None

    @property
    def same_job(self) -> str:
        """Equal for runs of one job, whatever their seeds."""
        return job_text(replace(self.job, train=replace(self.job.train, seed=0)))


@dataclass(frozen=True)
class Found:
    """The runs that ended, or else those that did not; `notes` tell people what was left out, and why."""

    runs: Sequence[Run]
    notes: list[str] = field(default_factory=list)


def find_runs(places: Sequence[str]) -> Found:
    """The runs in these folders, each a run directory or a folder around some; UserError where none can be read."""
    runs, failures = [], []
    for folder in _folders(places):
        try:
            runs.append(read_run(folder))
        except UserError as error:
            failures.append(error)
    if not runs:
        raise failures[0]
    notes = [f"left out, since it cannot be read: {error}" for error in failures]
    ended = [run for run in runs if run.summary is not None]
    for run in runs:
        if run.summary is None:
            treated = "left out" if ended else "shown as far as it came"
            notes.append(f"{run.folder}: has no {_SUMMARY}, since it failed, was stopped or still runs: {treated}")
    return Found(ended or runs, notes)


def _folders(places: Sequence[str]) -> list[Path]:
    """The run directories, each once."""
    found: dict[Path, Path] = {}
    for place in places:
        path = Path(place)
        if not path.is_dir():
            raise UsageError(f"{place}: no such folder", "name run directories, as in runs/async-lu-20261121-154512")
        folders = sorted(file.parent for file in path.rglob(_METRICS))
        if not folders:
            raise UsageError(f"{place}: holds no run", f"a run directory has {_METRICS}; `asyncpipe run` makes one")
        found |= {folder.resolve(): folder for folder in folders}
    return list(found.values())


def read_run(folder: Path) -> Run:
    """UsageError where a file is missing or damaged; the last line of a killed run may be cut off."""
    schedule, job = _read_inputs(folder / _RESOLVED)
    summary = _read_summary(folder / _SUMMARY)
    rows: dict[str, list[Row]] = {}
    for row in _read_rows(folder / _METRICS):
        rows.setdefault(row["kind"], []).append(row)
    return Run(folder, schedule, job, summary, _read_json(folder / "env.json") or {}, rows)


def _read_inputs(path: Path) -> tuple[Schedule, JobSpec]:
    if not path.is_file():
        raise UsageError(f"{path.parent}: has no {_RESOLVED}", "it is no run directory, or one of an older version")
    schedule, report = load(path), Report()
    job = read_job(schedule.job, report)
    if job is None or report.has_errors:
        raise ScheduleError(report.diagnostics)
    return schedule, job


def _read_summary(path: Path) -> dict[str, Any] | None:
    found = _read_json(path)
    if found is None:
        return None
    if found.get("schema") != "asyncpipe.run/1":
        message = f"{path}: expected the schema asyncpipe.run/1, found {found.get('schema')!r}"
        raise UsageError(message, "another version made this run; run it again")
    if missing := [key for key in _SUMMARY_KEYS if key not in found]:
        raise UsageError(f"{path}: has no {', '.join(missing)}", _DAMAGED)
    return found


def _read_json(path: Path) -> dict[str, Any] | None:
    """None where the file is not there."""
    if not path.exists():
        return None
    try:
        found = json.loads(path.read_text("utf-8"))
    except ValueError as error:
        raise UsageError(f"{path}: {error}", _DAMAGED) from None
    if not isinstance(found, dict):
        raise UsageError(f"{path}: expected an object, found {json.dumps(found)[:40]}", _DAMAGED)
    return found


def _read_rows(path: Path) -> Iterator[Row]:
    with path.open(encoding="utf-8") as file:
        for number, line in enumerate(file, 1):
            try:
                row = json.loads(line)
                row["kind"], row["step"]
            except (ValueError, TypeError, KeyError):
                if not line.endswith("\n"):
                    return
                raise UsageError(f"{path}:{number}: expected a row of metrics, found {line[:40]!r}") from None
            if missing := [key for key in _KEYS.get(row["kind"], ()) if key not in row]:
                message = f"{path}:{number}: a row `{row['kind']}` without {', '.join(missing)}"
                raise UsageError(message, "an older version made this run; run it again")
            yield row

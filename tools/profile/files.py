"""A profile's folder: profile.json and timeline.csv, written after a run and read back without torch."""

from __future__ import annotations

import csv
import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from asyncpipe.analysis.workers import Times, Workers
from asyncpipe.compiler import compile_schedule
from asyncpipe.errors import Report, ScheduleError, UsageError
from asyncpipe.ir import Op, Program, TimedAction, parse_action
from asyncpipe.schedule import Costs, Schedule
from asyncpipe.schedule.profile import read_profile

__all__ = [
    "PROFILE_NAME",
    "TIMELINE_NAME",
    "MeasuredCosts",
    "fingerprint",
    "program_of_run",
    "read_document",
    "read_measured_costs",
    "read_timeline",
    "read_workers",
    "write_timeline",
]

PROFILE_NAME, TIMELINE_NAME = "profile.json", "timeline.csv"
_COLUMNS = ["replica", "stream", "action", "begin", "end", "worker"]


@dataclass(frozen=True)
class MeasuredCosts:
    """What a prediction needs of a profile.json: mean costs in seconds, all times, workers with mean overheads."""

    costs: Costs
    times: Times
    workers: Workers
    document: dict[str, Any]

    def seconds(self, op: Op, stage: int) -> float:
        """What the op took at that stage on average, beside whatever ran beside it; 0 for what was not measured."""
        return self.times.mean(op, stage)


def read_measured_costs(path: str | Path) -> MeasuredCosts:
    """ScheduleError or UsageError for a file that is no profile of a run."""
    report = Report()
    costs = read_profile(path, report)
    if costs is None:
        raise ScheduleError(report.diagnostics)
    document = json.loads(Path(path).read_text("utf-8"))
    workers = _workers(document)
    try:
        samples = document["samples"]
        stages = {(Op(op), s): each for op, times in samples["ops"].items() for s, each in enumerate(times) if each}
        times = Times(stages, samples["hand_over"], samples["wake"])
    except (KeyError, TypeError, ValueError, AttributeError):
        workers = None
    if workers is None:
        hint = "`asyncpipe tools profile` writes one"
        raise UsageError(f"{path}: has costs, and not the workers that they were measured on", hint)
    return MeasuredCosts(costs, times, workers, document)


def read_workers(path: str | Path) -> Workers | None:
    """The workers of a profile, with their overheads in seconds; None where its costs were not measured on any."""
    return _workers(json.loads(Path(path).read_text("utf-8")))


def _workers(document: dict[str, Any]) -> Workers | None:
    try:
        overheads = document["overheads"]
        return Workers(int(document["workers"]), float(overheads["hand_over_s"]), float(overheads["wake_s"]))
    except (KeyError, TypeError, ValueError):
        return None


def read_document(folder: str | Path) -> dict[str, Any]:
    """profile.json of a folder; UsageError where it has none."""
    path = Path(folder) / PROFILE_NAME
    try:
        document = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        cause = getattr(error, "strerror", None) or error
        raise UsageError(f"{path}: cannot be read: {cause}", "name a folder of `asyncpipe tools profile`") from None
    if not isinstance(document, dict):
        raise UsageError(f"{path}: is no profile", "name a folder of `asyncpipe tools profile`")
    return document


def program_of_run(schedule: Schedule, folder: str | Path, document: Mapping[str, Any]) -> Program:
    """What a profile's folder has the timeline of; UsageError where that is no plan of this schedule."""
    try:
        stages, microbatches, known = (document[key] for key in ("stages", "microbatches", "program_sha256"))
        program = compile_schedule(schedule, int(stages)).program(int(microbatches))
    except (KeyError, TypeError, ValueError):
        raise UsageError(f"{folder}: has no measured run", "name a folder of `asyncpipe tools profile`") from None
    if fingerprint(program) != known:
        found = f"{document.get('schedule')}, or changed since"
        message = f"{folder} is a run of another schedule than {schedule.name}: {found}"
        raise UsageError(message, f"its own schedule is {folder}/resolved.yaml")
    return program


def fingerprint(program: Program) -> str:
    """What tells programs apart: two with the same one have the same actions, streams and waits."""
    return hashlib.sha256(str(program).encode()).hexdigest()


def write_timeline(folder: Path, program: Program, actions: Sequence[TimedAction]) -> None:
    """Times in seconds since the run began."""
    with (folder / TIMELINE_NAME).open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(_COLUMNS)
        names = [stream.name for stream in program.streams]
        for timed in actions:
            times = f"{timed.begin:.9f}", f"{timed.end:.9f}"
            writer.writerow([timed.replica, names[timed.stream], timed.action, *times, timed.worker])


def read_timeline(folder: str | Path, program: Program) -> list[TimedAction]:
    """The measured actions; UsageError where the file is not what `write_timeline` wrote for this program's streams."""
    path = Path(folder) / TIMELINE_NAME
    try:
        with path.open(encoding="utf-8", newline="") as file:
            return list(_rows(csv.DictReader(file), [stream.name for stream in program.streams]))
    except (OSError, ValueError, KeyError, TypeError) as error:
        cause = getattr(error, "strerror", None) or f"{type(error).__name__} {error}"
        raise UsageError(f"{path}: cannot be read: {cause}", "name a folder of `asyncpipe tools profile`") from None


def _rows(reader: csv.DictReader[str], names: list[str]) -> Iterator[TimedAction]:
    for row in reader:
        stream, action = names.index(row["stream"]), parse_action(row["action"])
        begin, end = float(row["begin"]), float(row["end"])
        yield TimedAction(int(row["replica"]), stream, action, begin, end, int(row["worker"]))

"""The run directory: what was asked, on what it ran, what came out. The interface to every other tool."""

from __future__ import annotations

import json
import os
from contextlib import suppress
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import Any

from asyncpipe.errors import UsageError, UserError, full_disk
from asyncpipe.schedule import Schedule
from asyncpipe.schedule.job import Component, JobSpec, job_text

__all__ = ["RunDirectory", "new_folder"]


class RunDirectory:
    """Writes into a new folder; metrics go out line by line, so a killed run leaves what it had.

    A context manager: MachineError where the disk is full.
    """

    def __init__(self, out: str | None, name: str) -> None:
        self.path = new_folder(out, name)
        self._metrics = (self.path / "metrics.jsonl").open("w", encoding="utf-8")

    def __enter__(self) -> RunDirectory:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self._metrics.close()
        except OSError as lost:
            error = error or lost
        if error is None:
            return
        refusal = full_disk(error, self.path) if isinstance(error, OSError) else None
        self._write_error(refusal or error)
        if refusal is not None:
            raise refusal from error
        if kind is None:
            raise error

    def write_inputs(self, schedule: Schedule, job: JobSpec, environment: dict[str, object]) -> None:
        """The file as given, the schedule and the job with every default, and the machine.

        `schedule` has the stages that the model was cut into, and the job keeps its name: so resolved.yaml runs again.
        """
        given = Path(schedule.file)
        self._text("schedule.yaml", given.read_text("utf-8") if given.is_file() else str(schedule))
        indented = "".join(f"  {line}\n" for line in job_text(self._seen_from_here(job)).splitlines())
        self._text("resolved.yaml", f"{schedule}job:\n  name: {json.dumps(job.name)}\n{indented}")
        self._text("env.json", json.dumps(environment, indent=2) + "\n")

    def _seen_from_here(self, job: JobSpec) -> JobSpec:
        """Files of the author's code relative to the run directory, so that resolved.yaml runs again."""
        folder = Path(job.file).parent

        def moved(part: Component) -> Component:
            file, colon, name = part.use.rpartition(":")
            if not colon or not file.endswith(".py"):
                return part
            return replace(part, use=f"{os.path.relpath(folder / file, self.path)}:{name}")

        parts = ("model", "data", "loss", "optimizer")
        return replace(job, **{name: moved(getattr(job, name)) for name in parts})  # type: ignore[arg-type]

    def write_plan(self, plan: dict[str, Any]) -> None:
        """What the run is going to do, and in which process: the total that progress is measured against."""
        self._json("run.json", plan)

    def metric(self, **row: Any) -> None:
        self._metrics.write(json.dumps(row) + "\n")

    def flush(self) -> None:
        self._metrics.flush()

    def write_summary(self, summary: dict[str, Any]) -> None:
        self._json("summary.json", summary)

    def _write_error(self, error: BaseException) -> None:
        """Why the run ended early. The run's own error goes on, so a full disk must not take its place."""
        stopped = not isinstance(error, Exception)
        document = {
            "schema": "asyncpipe.error/1",
            "kind": type(error).__name__,
            "message": error.message if isinstance(error, UserError) else str(error),
            "stopped": stopped,
        }
        with suppress(OSError):
            self._json("error.json", document)

    def _json(self, name: str, document: dict[str, Any]) -> None:
        """Whole or not at all, since others may be reading."""
        new = self.path / f".{name}.new"
        try:
            new.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")
            new.replace(self.path / name)
        finally:
            new.unlink(missing_ok=True)

    def _text(self, name: str, text: str) -> None:
        (self.path / name).write_text(text, encoding="utf-8")


def new_folder(out: str | None, name: str) -> Path:
    """`out`, if it was not there or is empty, else runs/NAME-TIME: a run never overwrites another."""
    if out is not None:
        path = Path(out)
        if path.exists() and (not path.is_dir() or any(path.iterdir())):
            raise UsageError(f"--out {out}: exists and is not an empty folder", "name another folder")
        return _made(path)
    stamp = datetime.now().strftime("%Y%m%d-%H%M%S")
    safe = "".join(c if c.isalnum() or c in "-_" else "-" for c in name)
    for name in (f"{safe}-{stamp}", *(f"{safe}-{stamp}-{k}" for k in range(1, 1000))):
        try:
            return _made(Path("runs") / name, shared=False)
        except FileExistsError:
            # Another run started in this second. Looking before making would let both take the folder.
            continue
    raise UsageError(f"runs/{safe}-{stamp}: a thousand runs began in this second", "use --out")


def _made(path: Path, shared: bool = True) -> Path:
    """FileExistsError if it is there already, unless that does not matter."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.mkdir(exist_ok=shared)
    except FileExistsError:
        raise
    except OSError as error:
        raise UsageError(f"the run directory {path} cannot be made: {error.strerror}", "use --out") from None
    return path

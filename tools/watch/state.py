"""Whether a run goes on, and if not, how it ended: from the files of its directory and its process."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Self

from asyncpipe.errors import UsageError
from asyncpipe.runtime.process import ProcessIdentity

__all__ = ["Plan", "State", "is_there", "read_plan", "state_of"]

METRICS = "metrics.jsonl"
Kind = Literal["waiting", "running", "ended", "failed", "stopped", "killed", "unknown"]


@dataclass(frozen=True)
class State:
    """`words` tell more than the kind, for people; unknown: nothing says whether it still runs."""

    kind: Kind
    words: str = ""

    @property
    def is_over(self) -> bool:
        return self.kind in ("ended", "failed", "stopped", "killed")


@dataclass(frozen=True)
class Plan:
    """run.json: what the run is going to do; docs/metrics.md has the keys."""

    started: float
    process: ProcessIdentity | None
    schedule: str
    job: str
    backend: str
    seed: int
    stages: int
    replicas: int
    streams: Sequence[str]
    batch: int
    microbatches: int
    updates: int
    gpus: Sequence[str]

    @classmethod
    def of(cls, document: dict[str, Any]) -> Self | None:
        """None for a document of another version."""
        if document.get("schema") != "asyncpipe.started/1":
            return None
        values = {key: value for key, value in document.items() if key in cls.__dataclass_fields__}
        try:
            return cls(**{**values, "process": ProcessIdentity.read(values.get("process"))})
        except TypeError:
            return None


def is_there(folder: Path) -> bool:
    """Whether a run has begun to write there; UsageError where something else is."""
    if (folder / "profile.json").exists():
        hint = f"`asyncpipe tools trace {folder}` shows its timeline"
        raise UsageError(f"{folder}: a folder of `tools profile`, which trains without metrics", hint)
    if (folder / METRICS).exists():
        return True
    if not folder.exists():
        return False
    if not folder.is_dir():
        raise UsageError(f"{folder}: a file; expected a run directory", "as in runs/async-lu-20261121-154512")
    if any(folder.iterdir()) and not (folder / METRICS).exists():
        raise UsageError(f"{folder}: no run directory, since it has no {METRICS}", _newest_in(folder))
    return False


def _newest_in(folder: Path) -> str:
    runs = sorted(folder.glob(f"*/{METRICS}"), key=lambda file: file.stat().st_mtime)
    return f"the newest run in it is {runs[-1].parent}" if runs else "`asyncpipe run --out FOLDER` makes one"


def read_plan(folder: Path) -> Plan | None:
    """None before the run has written it, and of a run of another version."""
    document = _document(folder / "run.json")
    return None if document is None else Plan.of(document)


def state_of(folder: Path, plan: Plan | None) -> State:
    """The process is asked first: what it leaves behind is there before it is gone."""
    lives = None if plan is None or plan.process is None else plan.process.lives()
    if (summary := _document(folder / "summary.json")) is not None:
        wall = summary.get("wall_s")
        return State("ended", "" if wall is None else f"{wall:.1f} s of training and evaluation")
    if (error := _document(folder / "error.json")) is not None:
        if error.get("stopped"):
            return State("stopped", str(error.get("kind", "")))
        return State("failed", f"{error.get('kind')}: {error.get('message')}")
    if plan is None:
        return State("unknown", "no run.json: it has just begun, or an older version made it")
    if plan.process is None or lives is None:
        return State("unknown", "its process is on another machine, or in another container")
    number = f"process {plan.process.pid}"
    if lives:
        return State("running", number)
    return State("killed", f"{number} is gone and left no result: killed by hand, out of memory, or a full disk")


def _document(path: Path) -> dict[str, Any] | None:
    """None where it is not there, or not whole yet."""
    try:
        found = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError):
        return None
    return found if isinstance(found, dict) else None

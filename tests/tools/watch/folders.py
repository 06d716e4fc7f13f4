"""Run directories as a run leaves them while it goes: chosen rows, a plan, and a process that lives or not."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

from asyncpipe.runtime.process import ProcessIdentity

__all__ = ["STARTED", "add_rows", "dead_process", "line_of", "rows", "write_plan", "write_run"]

STARTED = 1_800_000_000.0
_PLAN: dict[str, Any] = {
    "schema": "asyncpipe.started/1",
    "started": STARTED,
    "schedule": "async-lu",
    "job": "digits",
    "backend": "threads",
    "seed": 3,
    "stages": 2,
    "replicas": 1,
    "streams": ["forward", "backward[0]", "backward[1]"],
    "batch": 32,
    "microbatches": 1000,
    "updates": 1000,
    "gpus": [],
}


@cache
def dead_process() -> ProcessIdentity:
    """One that has ended; whoever gets its number did not start when the machine did."""
    done = subprocess.Popen(["true"])
    done.wait()
    return ProcessIdentity(done.pid, 1, ProcessIdentity.of_this().place)


def write_plan(folder: Path, process: ProcessIdentity | None = None, **changes: Any) -> None:
    """run.json; the process is this one."""
    process = process or ProcessIdentity.of_this()
    plan = {**_PLAN, "process": process.document(), **changes}
    (folder / "run.json").write_text(json.dumps(plan), "utf-8")


def rows(count: int, first: int = 0) -> Iterator[dict[str, Any]]:
    """Microbatches of 32 samples, 50 a second, whose loss falls like 4 / (1 + m / 10)."""
    for m in range(first, first + count):
        when = {"samples": 32 * (m + 1), "train_s": (m + 1) / 50, "virtual_time": None}
        yield {"kind": "microbatch", "attempt": 1, "step": m, "microbatch": m, **when, "loss": 40 / (10 + m), "lr": 0.1}


def line_of(row: dict[str, Any]) -> str:
    return f"{json.dumps(row)}\n"


def add_rows(folder: Path, *found: dict[str, Any]) -> None:
    with (folder / "metrics.jsonl").open("a", encoding="utf-8") as file:
        file.writelines(map(line_of, found))
    # As if it had been written two seconds before the tests look, a minute after the start.
    os.utime(folder / "metrics.jsonl", (STARTED + 58, STARTED + 58))


def write_run(folder: Path, *found: dict[str, Any], process: ProcessIdentity | None = None, **changes: Any) -> Path:
    folder.mkdir(parents=True)
    write_plan(folder, process, **changes)
    add_rows(folder, *found)
    return folder

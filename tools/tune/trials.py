"""Trials of candidates, by way of the journal: what was measured before on this machine is not measured again."""

from __future__ import annotations

import hashlib
import os
import platform
from collections.abc import Callable
from dataclasses import dataclass, replace
from importlib import metadata
from pathlib import Path
from typing import Any

from asyncpipe.schedule.job import job_text
from asyncpipe.tools.environment import describe_cpu
from asyncpipe.tools.tune.candidate import Candidate
from asyncpipe.tools.tune.inputs import job_overrides, read_inputs
from asyncpipe.tools.tune.journal import Journal
from asyncpipe.tools.tune.request import Request

__all__ = ["Run", "Trials", "machine_and_versions"]

Run = Callable[[Request, float], dict[str, Any]]
"""A request and its time limit in seconds, to a result."""
_FORMAT = 1
"""Of requests and results: a trial of another format is not known."""
_LIBRARIES = ("asyncpipe", "torch", "numpy", "triton")


def machine_and_versions() -> dict[str, Any]:
    """What a measurement holds for."""
    versions = {name: _version(name) for name in _LIBRARIES}
    return {"cpu": describe_cpu(), "system": platform.platform(), "python": platform.python_version(), **versions}


def _version(distribution: str) -> str | None:
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return None


@dataclass
class Trials:
    """`base`: the request that all trials share, of the file that is tuned. `ran` counts those that were not known."""

    base: Request
    journal: Journal
    run: Run
    timeout: float
    machine: dict[str, Any]
    retries: bool = False
    """Runs again what failed before: the machine may have been at fault."""
    ran: int = 0

    def costs(self, thread_counts: tuple[int, ...]) -> dict[str, Any]:
        """The profile of the file's own setting."""
        request = replace(self.base, kind="costs", thread_counts=thread_counts, target=None, memory=None)
        return self._known_or_run(request, 0, 2 * len(thread_counts) + 1)

    def of(self, candidate: Candidate, number: int) -> dict[str, Any]:
        """The trial of a candidate in round `number`; to a loss each round has a seed of its own."""
        own = job_overrides(self.base.overrides) if candidate.is_synchronous else self.base.overrides
        stages = None if candidate.is_synchronous or "stages" in dict(candidate.settings) else self.base.stages
        request = replace(
            self.base,
            schedule=candidate.schedule,
            overrides=(*own, *candidate.overrides),
            stages=stages,
            threads=candidate.threads,
            period=candidate.period,
            seed=self.base.seed + (number if self.base.kind == "loss" else 0),
        )
        return self._known_or_run(request, number)

    def _known_or_run(self, request: Request, number: int, runs: int = 1) -> dict[str, Any]:
        key = self._key(request, number)
        known = self.journal.get(key)
        if known is None or (self.retries and "failed" in known):
            known = self.run(request, self.timeout * runs)
            self.ran += 1
            if "failed" not in known or request.kind != "costs":
                self.journal.put(key, known)
        return known

    def _key(self, request: Request, number: int) -> dict[str, Any]:
        """Schedule and job by their content, and so is the author's code: where they lie does not matter."""
        document = request.document()
        for name in ("schedule", "tuned", "overrides", "job", "allow"):
            del document[name]
        schedule, spec = read_inputs(request, request.schedule, request.overrides)
        contents = {"schedule": _hash(str(schedule)), "job": _hash(job_text(spec)), "code": _code_hash(request)}
        return {"format": _FORMAT, **document, **contents, "round": number, "machine": self.machine}


def _code_hash(request: Request) -> str:
    """Of the files that are allowed; of a package only the name."""
    files = [Path(name) for name in request.allow if os.path.isfile(name)]
    return _hash("".join(file.read_text("utf-8", errors="replace") for file in files)) if files else ""


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]

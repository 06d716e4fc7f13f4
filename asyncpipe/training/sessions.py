"""What surrounds the runs of a training: nothing, a record, or a replay."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any, Protocol

from torch import nn

from asyncpipe.errors import UsageError
from asyncpipe.runtime.backends import Backend
from asyncpipe.runtime.replicas import ReplicaGroup
from asyncpipe.training.log_facts import Header
from asyncpipe.training.recording import Recording
from asyncpipe.training.replaying import Replaying

__all__ = ["Sessions", "make_sessions", "record_text"]


class Sessions(Protocol):
    """What surrounds each run of a training. Of the group and the back end that come out, the run makes use."""

    @property
    def threads(self) -> int | None:
        """Intra-op threads that the runs must have, if any number."""

    def around(
        self, group: ReplicaGroup, backend: Backend, model: nn.Module
    ) -> AbstractContextManager[tuple[ReplicaGroup, Backend]]:
        """Begins before the first action, ends when all replicas have the same weights."""

    def words(self) -> dict[str, Any]:
        """What the summary of a run says about it."""


class Unrecorded:
    """Nothing surrounds a run."""

    threads = None

    @contextmanager
    def around(self, group: ReplicaGroup, backend: Backend, model: nn.Module) -> Iterator[tuple[ReplicaGroup, Backend]]:
        yield group, backend

    def words(self) -> dict[str, Any]:
        return {"record": None, "replay": None}


def make_sessions(record: str | Path | None, replay: str | Path | None, backend: str, header: Header) -> Sessions:
    """Recorded into a file, or replayed from one, or neither; UsageError for both, or on another back end."""
    if record is not None and replay is not None:
        raise UsageError("a replay is not recorded: its log is the one that it repeats", "give record or replay")
    if replay is not None and backend != "serial":
        raise UsageError(f"the back end {backend} has an order of its own, a replay that of its log", "use serial")
    if record is not None:
        if backend not in ("serial", "threads"):
            raise UsageError(f"the back end {backend} keeps no record of its order", "use serial or threads")
        return Recording.into(record, header)
    return Unrecorded() if replay is None else Replaying.of(replay, header)


def record_text(summary: Mapping[str, Any]) -> str:
    """A line for people on what was recorded or replayed, and where a replay may differ."""
    if (recorded := summary["record"]) is not None:
        return f"recorded in {recorded['log']}: {_races(recorded['possible_races'])}\n"
    if (replayed := summary["replay"]) is None:
        return ""
    same, found = replayed["same_parameters"], _races(replayed["possible_races"])
    result = "the recorded parameters, bit for bit" if same else f"differs from {replayed['first_difference']} on"
    places = "".join(f"  {place}\n" for place in replayed["first_races"] if not same)
    return f"replayed {replayed['actions']} actions: {result}; {found}\n{places}"


def _races(count: int) -> str:
    return f"{count or 'no'} action{'s' * (count != 1)} overlapped a write to what they touched"

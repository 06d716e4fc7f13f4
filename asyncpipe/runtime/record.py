"""The record of a run: in which order its actions really ran, and which versions they read.

Each action takes a number from one counter before it reads anything and another after its last write, so that two
actions overlapped exactly where their numbers interleave. The counter is atomic under the interpreter lock, and each
stream notes what it did in a list of its own: nothing here locks, and an action costs about a microsecond more.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import NamedTuple

from asyncpipe.ir import Action, Op, Program
from asyncpipe.runtime.execution import Execution
from asyncpipe.runtime.replicas import ReplicaGroup, Synchroniser
from asyncpipe.runtime.stage_weights import StageWeights

__all__ = ["Entry", "Recorder", "version_read"]

Step = Callable[[int, int, int], None]
Row = tuple[int, int, int, int, int, Op, int, str, int | None]
"""The fields of an Entry, with those of its action; a plain tuple is made in half the time."""


class Entry(NamedTuple):
    """What a stream of a replica did between the numbers `first` and `last`.

    `phase`: which half of a SYNC, else empty. `version`: what a forward or backward read, None for other actions and
    for one that failed.
    """

    first: int
    last: int
    replica: int
    stream: int
    action: Action
    phase: str
    version: int | None


def _entry(row: Row) -> Entry:
    first, last, replica, stream, stage, op, index, phase, version = row
    return Entry(first, last, replica, stream, Action(stage, op, index), phase, version)


def _effect(entry: Entry) -> int:
    """Reads count from their beginning, writes from their end: so do the version counters."""
    return entry.last if entry.action.op is Op.U or entry.phase == "end" else entry.first


class Recorder:
    """Notes the actions of one run. `attach` it before the run, and read its `entries` after."""

    def __init__(self) -> None:
        self._number = itertools.count().__next__
        self._rows: list[list[Row]] = []

    def attach(self, group: ReplicaGroup) -> ReplicaGroup:
        """The same group, whose actions are noted."""
        for replica, execution in enumerate(group.executions):
            rows: list[list[Row]] = [[] for _ in group.program.streams]
            self._rows += rows
            execution.steps = {op: self._noted(replica, execution, op, rows) for op in execution.steps}
        if group.synchroniser is None:
            return group
        synchroniser = _NotedSynchroniser(group.synchroniser, self._number, group.program)
        self._rows.append(synchroniser.rows)
        return replace(group, synchroniser=synchroniser)

    def entries(self) -> list[Entry]:
        """All that was noted, in the order in which it took effect."""
        return sorted((_entry(row) for rows in self._rows for row in rows), key=_effect)

    def _noted(self, replica: int, execution: Execution, op: Op, rows: Sequence[list[Row]]) -> Step:
        number, step, version = self._number, execution.steps[op], version_read(execution, op)

        def run(stream: int, stage: int, index: int) -> None:
            found = None
            first = number()
            try:
                # W reads the live weights, and forgets the rest.
                found = version(stage, index) if op is Op.W else None
                step(stream, stage, index)
                found = version(stage, index) if op is not Op.W else found
            finally:
                rows[stream].append((first, number(), replica, stream, stage, op, index, "", found))

        return run


class _NotedSynchroniser:
    """Notes both halves of each SYNC."""

    def __init__(self, inner: Synchroniser, number: Callable[[], int], program: Program) -> None:
        self.inner = inner
        self.meets = inner.meets
        self.rows: list[Row] = []
        self._number = number
        self._streams = {
            launch.action: stream
            for stream in range(len(program.streams))
            for launch in program.launches(stream)
            if launch.action.op is Op.SYNC
        }

    def restart(self) -> None:
        self.inner.restart()

    def start(self, executions: Sequence[Execution], replica: int, stage: int, update: int) -> None:
        with self._noted(replica, stage, update, "begin"):
            self.inner.start(executions, replica, stage, update)

    def end(self, executions: Sequence[Execution], replica: int, stage: int, update: int) -> None:
        with self._noted(replica, stage, update, "end"):
            self.inner.end(executions, replica, stage, update)

    @contextmanager
    def _noted(self, replica: int, stage: int, update: int, phase: str) -> Iterator[None]:
        action = Action(stage, Op.SYNC, update)
        first = self._number()
        try:
            yield
        finally:
            last, stream = self._number(), self._streams[action]
            self.rows.append((first, last, replica, stream, stage, Op.SYNC, update, phase, None))

    def drain(self, weights: Sequence[Sequence[StageWeights]]) -> None:
        self.inner.drain(weights)

    def adopt(self, weights: Sequence[StageWeights]) -> None:
        self.inner.adopt(weights)


def version_read(execution: Execution, op: Op) -> Callable[[int, int], int | None]:
    """What tells the version that an action of that op has read, or for W is about to read."""

    def by_forward(stage: int, index: int) -> int:
        return execution.reads[stage][execution.slot(stage, index)][0]

    def by_backward(stage: int, index: int) -> int:
        return sum(execution.reads[stage][execution.slot(stage, index)])

    def live(stage: int, index: int) -> int:
        return execution.version(stage)

    table = {Op.F: by_forward, Op.B: by_backward, Op.I: by_backward, Op.R: by_backward, Op.W: live}
    return table.get(op, lambda stage, index: None)

"""Replays a log run by run, and says where it came out otherwise."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import nn

from asyncpipe.errors import UsageError
from asyncpipe.ir import Program
from asyncpipe.runtime.backends import Backend
from asyncpipe.runtime.interleaving import KEYS, Log, Section, read_log
from asyncpipe.runtime.replay import Replay
from asyncpipe.runtime.replicas import ReplicaGroup
from asyncpipe.training.log_facts import Header, fingerprint, random_state

__all__ = ["Replaying"]

_SHOWN = 5
_SAME_SCHEDULE = "replay the schedule of the recorded run, with its costs and stages"
_SAME_JOB = "replay with the job of the recorded run"
_OTHER_MACHINE = "replay with the data of the recorded run, on the same machine and version of torch"
_COMPARED = {
    **dict.fromkeys(("schedule", "stages", "replicas", "program"), _SAME_SCHEDULE),
    **dict.fromkeys(("model", "optimizer", "intra_op_threads"), _SAME_JOB),
}
"""The facts of a header that a replay must have too, in the order in which they are looked at; with what to do."""


@dataclass
class Replaying:
    """Runs a log instead of a schedule's own timing. `header` is asked for at the first run, and compared."""

    log: Log
    header: Header
    runs: int = 0
    same_parameters: bool = True
    lines: int = 0
    possible_races: int = 0
    places: list[str] = field(default_factory=list)
    """The first possible races, in words."""
    first_difference: str | None = None
    """Where the replay came out otherwise, if anywhere: the first loss, or else the end of a run."""

    @classmethod
    def of(cls, file: str | Path, header: Header) -> Replaying:
        return cls(read_log(file), header)

    @property
    def threads(self) -> int | None:
        """Intra-op threads of the recorded run."""
        words = self.log.header["intra_op_threads"]
        return int(words) if words.isdecimal() else None

    @contextmanager
    def around(self, group: ReplicaGroup, backend: Backend, model: nn.Module) -> Iterator[tuple[ReplicaGroup, Backend]]:
        if self.runs == 0:
            self._check_header()
        section = self._section(group.program, model)
        replay = Replay(self.log, section)
        self._note_races(replay)
        yield group, replay.run
        self._compare(replay, fingerprint(model))

    def _check_header(self) -> None:
        """UsageError for the log of another schedule, model, or number of stages or replicas."""
        own = self.header()
        for key, hint in _COMPARED.items():
            if self.log.header[key] != own[key]:
                found = f"{key.replace('_', ' ')} {self.log.header[key]}, this run has {own[key]}"
                raise self.log.error(2 + KEYS.index(key), f"the log is of {found}", hint)

    def _section(self, program: Program, model: nn.Module) -> Section:
        if self.runs == len(self.log.sections):
            message = f"the log ends after run {self.runs}, and this is one more"
            raise UsageError(f"{self.log.file}: {message}", "replay with the --steps or --epochs of the recorded run")
        section = self.log.sections[self.runs]
        self.runs += 1
        line = section.first - 1
        if section.microbatches != program.microbatches:
            message = f"the log has {section.microbatches} microbatches here, this run {program.microbatches}"
            raise self.log.error(line, message, "replay with the job, --steps or --epochs of the recorded run")
        if self.same_parameters and section.parameters != fingerprint(model):
            message = "the recorded run began with other parameters than this one"
            raise self.log.error(line, message, "replay with the seed and the job of the recorded run")
        if section.draws and self.same_parameters and section.random != random_state():
            message = "the recorded run began with another state of the random numbers, and draws some"
            raise self.log.error(line, message, "replay with the seed of the recorded run")
        return section

    def _note_races(self, replay: Replay) -> None:
        self.lines += len(replay.section.lines)
        for number, line in replay.overlaps():
            self.possible_races += 1
            if len(self.places) < _SHOWN:
                others = " and ".join(f"{action.op.words} {action}" for _, action in line.overlaps)
                self.places.append(f"line {number}: {line.action.op.words} {line.action} overlapped {others}")

    def _compare(self, replay: Replay, parameters: str) -> None:
        """UsageError where the parameters differ and nothing in the log explains it."""
        section = replay.section
        if section.end_parameters is None:
            line = section.first + len(section.lines)
            hint = "a read that was perhaps torn may have made it fail" if self.possible_races else _OTHER_MACHINE
            raise self.log.error(line, "the recorded run failed here, and the replay did not", hint)
        if section.end_parameters == parameters:
            return
        where = f"line {replay.first_loss}" if replay.first_loss else f"the end of run {section.number}"
        if self.same_parameters and not _explained(replay):
            message = f"the replay differs from {where} on, though no read overlapped an update before"
            raise UsageError(f"{self.log.file}: {message}", _OTHER_MACHINE)
        self.first_difference = self.first_difference or where
        self.same_parameters = False

    def words(self) -> dict[str, Any]:
        return {"record": None, "replay": self._summary()}

    def _summary(self) -> dict[str, Any]:
        return {
            "log": self.log.file,
            "runs": self.runs,
            "actions": self.lines,
            "possible_races": self.possible_races,
            "first_races": self.places,
            "same_parameters": self.same_parameters,
            "first_difference": self.first_difference,
        }


def _explained(replay: Replay) -> bool:
    """Whether a possible race comes before the first loss that differs."""
    overlap = replay.first_overlap()
    return overlap is not None and (replay.first_loss is None or overlap <= replay.first_loss)

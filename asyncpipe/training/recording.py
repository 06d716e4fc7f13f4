"""Records the runs of a training into a log."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

from asyncpipe.errors import UsageError
from asyncpipe.ir import Action, Op
from asyncpipe.runtime.backends import Backend
from asyncpipe.runtime.interleaving import FORMAT, KEYS, Line, Section, line_text, section_text
from asyncpipe.runtime.races import races
from asyncpipe.runtime.record import Entry, Recorder
from asyncpipe.runtime.replicas import ReplicaGroup
from asyncpipe.training.log_facts import Header, fingerprint, random_state

__all__ = ["Recording"]


@dataclass
class Recording:
    """Appends every run to the log in `file`; `header` is asked for at the first."""

    file: Path
    header: Header
    runs: int = 0
    possible_races: int = 0
    threads = None

    @classmethod
    def into(cls, file: str | Path, header: Header) -> Recording:
        """UsageError where a new file cannot be made."""
        try:
            Path(file).open("x").close()
        except OSError as error:
            raise UsageError(f"the log {file} cannot be made: {error.strerror}", "name another file") from None
        return cls(Path(file), header)

    def words(self) -> dict[str, Any]:
        return {"record": {"log": str(self.file), "possible_races": self.possible_races}, "replay": None}

    @contextmanager
    def around(self, group: ReplicaGroup, backend: Backend, model: nn.Module) -> Iterator[tuple[ReplicaGroup, Backend]]:
        recorder, before, random = Recorder(), fingerprint(model), random_state()
        recorded = recorder.attach(group)
        try:
            yield recorded, backend
        except BaseException:
            self._write(recorder, group, before, random, None)
            raise
        self._write(recorder, group, before, random, fingerprint(model))

    def _write(self, recorder: Recorder, group: ReplicaGroup, before: str, random: str, after: str | None) -> None:
        """The lines of a run, at the first after the header."""
        draws = random_state() != random
        lines = [line_text(line, group.program.replicas) for line in _lines(group, recorder.entries(), draws)]
        self.runs += 1
        self.possible_races += sum(" ~ " in line for line in lines)
        section = Section(self.runs, group.program.microbatches or 0, before, random, 0, lines, after, draws)
        with self.file.open("a", encoding="utf-8") as out:
            if self.runs == 1:
                header = self.header()
                out.write("".join([f"{FORMAT}\n", *(f"{key} {header[key]}\n" for key in KEYS)]))
            out.writelines(f"{line}\n" for line in section_text(section))


def _lines(group: ReplicaGroup, entries: Sequence[Entry], draws: bool) -> Iterator[Line]:
    """What was noted, with possible races, losses, and the number of each update in the order in which they landed."""
    program = group.program
    buffers = [next(stage.module.buffers(), None) is not None for stage in group.executions[0].stages]
    overlaps: dict[int, list[tuple[int, Action]]] = {}
    for reader, writer in races(program, entries, buffers, draws):
        overlaps.setdefault(reader, []).append((entries[writer].replica, entries[writer].action))
    landed: dict[tuple[int, int], int] = {}
    for position, (_, _, replica, stream, action, phase, version) in enumerate(entries):
        if action.op is Op.U:
            version = landed[replica, action.stage] = landed.get((replica, action.stage), 0) + 1
        is_loss = action.op is Op.F and action.stage == program.stages - 1
        loss = group.executions[replica].losses[action.index] if is_loss else None
        others = tuple(overlaps.get(position, ()))
        yield Line(replica, program.streams[stream].name, action, phase, version, loss, others)

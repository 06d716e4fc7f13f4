"""The text of a recorded training: what was run, then its actions, run by run, in the order in which they took effect:
reads by their beginning, writes by their end.

asyncpipe.record/1
schedule async-lu
program 1f0c...                     fingerprint of the compiled program, and of the shapes of the model
...
run 1 microbatches 45 from 9d02...  fingerprint of the parameters and buffers
forward 0F0 v0                      this forward read version 0 of stage 0
backward[0] 0B0 v0 ~ 0U1            while it read, update 1 of the stage was written: perhaps torn
backward[0] 0U0 v1                  the first update that landed on stage 0
replica[1].worker 2SYNC0 begin
end 271 to 77ab...                  so many lines, and parameters and buffers afterwards
stopped 12 NumericalError           or: the run failed after so many lines
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from asyncpipe.errors import UsageError
from asyncpipe.ir import Action, parse_action

__all__ = [
    "FORMAT",
    "KEYS",
    "LOG_NAME",
    "Line",
    "Log",
    "Section",
    "line_text",
    "parse_line",
    "read_log",
    "section_text",
]

FORMAT = "asyncpipe.record/1"
LOG_NAME = "interleaving.log"
"""In a run directory."""
KEYS = (
    *("schedule", "program", "model", "optimizer", "stages", "replicas"),
    *("backend", "seed", "intra_op_threads", "torch"),
)
_GIVE_A_LOG = f"give {LOG_NAME} of a run with `--record`, or its run directory"
_STREAM = r"(?:replica\[(\d+)\]\.)?(\S+)"
_LINE = re.compile(rf"{_STREAM} (\S+?)(?: (begin|end))?(?: v(\d+))?(?: loss=(\S+))?(?: ~ (.+))?")
_OTHER = re.compile(r"(?:replica\[(\d+)\]\.)?(\S+)")
_RUN = re.compile(r"run (\d+) microbatches (\d+) from (\S+) random (\S+)")
_END = re.compile(r"end (\d+) to (\S+) random (drawn|untouched)")
_STOPPED = re.compile(r"stopped (\d+) (.*)")


class Line(NamedTuple):
    """One action, or half of a SYNC. `overlaps`: (replica, action) of those that wrote what it touched meanwhile."""

    replica: int
    stream: str
    action: Action
    phase: str = ""
    version: int | None = None
    loss: float | None = None
    overlaps: tuple[tuple[int, Action], ...] = ()


@dataclass(frozen=True)
class Section:
    """One run, from one drain of the pipeline to the next; `lines` are not parsed yet, the first has number `first`."""

    number: int
    microbatches: int
    parameters: str
    random: str
    first: int
    lines: Sequence[str]
    end_parameters: str | None
    """None where the run failed."""
    draws: bool


@dataclass(frozen=True)
class Log:
    """A whole log; `header` has the KEYS, all of them."""

    file: str
    header: Mapping[str, str]
    sections: Sequence[Section]

    def error(self, line: int, message: str, hint: str = "") -> UsageError:
        return UsageError(f"{self.file}:{line}: {message}", hint)


def line_text(line: Line, replicas: int) -> str:
    """The line, without its end."""

    def of(replica: int, text: str) -> str:
        return f"replica[{replica}].{text}" if replicas > 1 else text

    parts = [of(line.replica, line.stream), str(line.action)]
    parts += [line.phase] if line.phase else []
    parts += [] if line.version is None else [f"v{line.version}"]
    parts += [] if line.loss is None else [f"loss={line.loss!r}"]
    others = [of(replica, str(action)) for replica, action in line.overlaps]
    return " ".join([*parts, "~", *others] if others else parts)


def parse_line(text: str) -> Line:
    """The inverse of `line_text`; ValueError for anything else."""
    match = _LINE.fullmatch(text)
    if match is None:
        raise ValueError(f"expected a stream and an action such as `forward 0F3 v1`, found {text!r}")
    replica, stream, action, phase, version, loss, others = match.groups()
    return Line(
        int(replica or 0),
        stream,
        parse_action(action),
        phase or "",
        None if version is None else int(version),
        None if loss is None else float(loss),
        tuple(map(_parse_other, others.split())) if others else (),
    )


def _parse_other(text: str) -> tuple[int, Action]:
    match = _OTHER.fullmatch(text)
    assert match is not None
    return int(match[1] or 0), parse_action(match[2])


def read_log(file: str | Path) -> Log:
    """A log from a file or a run directory; UsageError with the line where it is none, cut off, or of another kind."""
    path = _log_path(Path(file))
    try:
        lines = path.read_text("utf-8").splitlines()
    except UnicodeDecodeError:
        raise UsageError(f"{path}: expected text, found other bytes: it is no log of a run", _GIVE_A_LOG) from None
    except OSError as error:
        raise UsageError(f"{path}: cannot be read: {error.strerror}", _GIVE_A_LOG) from None
    if not lines:
        raise UsageError(f"{path}: the log is empty: the run was stopped before it began", "record the run again")
    reader = _Reader(str(path), lines)
    return Log(str(path), reader.header(), tuple(reader.sections()))


def _log_path(path: Path) -> Path:
    if path.is_dir():
        if not (path / LOG_NAME).is_file():
            raise UsageError(f"{path}: a folder without {LOG_NAME}: its run was not recorded", _GIVE_A_LOG)
        return path / LOG_NAME
    if not path.exists():
        raise UsageError(f"{path}: no such file", _GIVE_A_LOG)
    return path


class _Reader:
    def __init__(self, file: str, lines: Sequence[str]) -> None:
        self.file = file
        self.lines = lines
        self.next = 0

    def error(self, message: str, hint: str = "") -> UsageError:
        return UsageError(f"{self.file}:{self.next + 1}: {message}", hint)

    def take(self, expected: str) -> str:
        if self.next >= len(self.lines):
            raise self.error(f"the log is cut off: expected {expected}", "record the run again, to its end")
        self.next += 1
        return self.lines[self.next - 1]

    def back(self) -> None:
        """The error is about the line that was just taken."""
        self.next -= 1

    def header(self) -> dict[str, str]:
        first = self.take(f"`{FORMAT}`")
        if first != FORMAT:
            self.back()
            known = first.startswith("asyncpipe.record/")
            what = f"a log of another version, {first!r}" if known else "no log of a run"
            raise self.error(f"expected {FORMAT!r}, found {what}", "record the run with this version of asyncpipe")
        found = {}
        for key in KEYS:
            name, _, value = self.take(f"`{key} ...`").partition(" ")
            if name != key or not value:
                self.back()
                raise self.error(f"expected `{key} ...`, found {self.lines[self.next]!r}")
            found[key] = value
        return found

    def sections(self) -> Iterator[Section]:
        if self.next == len(self.lines):
            self.take("`run 1 ...`")
        while self.next < len(self.lines):
            yield self.section()

    def section(self) -> Section:
        text = self.take("`run ...`")
        run = _RUN.fullmatch(text)
        if run is None:
            self.back()
            raise self.error(f"expected `run N microbatches N from ... random ...`, found {text!r}")
        first = self.next
        while not (text := self.take("an action, or `end ...`")).startswith(("end ", "stopped ")):
            pass
        ended, stopped = _END.fullmatch(text), _STOPPED.fullmatch(text)
        count = self.next - 1 - first
        closing = ended or stopped
        if closing is None or int(closing[1]) != count:
            self.back()
            raise self.error(f"expected the end of {count} lines, found {text!r}: lines were added or removed")
        return Section(
            int(run[1]),
            int(run[2]),
            run[3],
            run[4],
            first + 1,
            self.lines[first : self.next - 1],
            ended[2] if ended else None,
            ended is None or ended[3] == "drawn",
        )


def section_text(section: Section) -> Iterable[str]:
    """The lines of a section that ended or failed, without their ends."""
    yield f"run {section.number} microbatches {section.microbatches} from {section.parameters} random {section.random}"
    yield from section.lines
    drawn = "drawn" if section.draws else "untouched"
    count = len(section.lines)
    ended = section.end_parameters
    yield f"stopped {count} failed" if ended is None else f"end {count} to {ended} random {drawn}"

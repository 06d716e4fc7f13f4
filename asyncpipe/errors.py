"""Every error that asyncpipe raises on purpose, and the diagnostics that they carry.

AsyncpipeError
├── UserError                 exit code
│   ├── UsageError            2   a wrong option or argument
│   ├── ScheduleError         3   an invalid schedule or job file; carries diagnostics
│   ├── MachineError          4   this machine cannot do it (no CUDA, too few devices, missing data)
│   ├── UserCodeError         5   the user's model, data or loss raised
│   ├── NumericalError        6   a loss or gradient is not finite
│   ├── HangError             7   nothing moved for too long
│   ├── OutOfMemoryError      8   a device or the host has less memory than this needs
│   └── CheckpointError       9   a checkpoint is missing or does not fit
└── InternalError             1   a bug in asyncpipe
"""

from __future__ import annotations

import errno
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Self

__all__ = [
    "AsyncpipeError",
    "CheckpointError",
    "Diagnostic",
    "HangError",
    "InternalError",
    "MachineError",
    "NumericalError",
    "OutOfMemoryError",
    "Position",
    "Report",
    "ScheduleError",
    "UsageError",
    "UserCodeError",
    "UserError",
    "did_you_mean",
    "full_disk",
]


def did_you_mean(word: str, known: Sequence[str]) -> str:
    """A hint that names the nearest known word, or else all of them."""
    from difflib import get_close_matches

    near = get_close_matches(word, known, 1, 0.6)
    return f"did you mean {near[0]!r}?" if near else f"expected one of: {', '.join(known)}"


@dataclass(frozen=True, order=True)
class Position:
    """A place in a file: 1-based line and column, and how many characters from there are meant."""

    file: str
    line: int
    column: int
    length: int = 1

    def __str__(self) -> str:
        return f"{self.file}:{self.line}:{self.column}"


@dataclass(frozen=True)
class Diagnostic:
    """One finding of a check: a stable code, one line of cause, the place, and what to do about it."""

    code: str
    message: str
    where: Position | None = None
    hint: str = ""
    severity: str = "error"
    notes: tuple[tuple[str, Position | None], ...] = field(default=())
    """Further lines of the story, each with its own place: the rules of a cycle, say."""

    @property
    def is_error(self) -> bool:
        return self.severity == "error"


@dataclass
class Report:
    """Collects diagnostics, so that one check can tell all that is wrong at once."""

    diagnostics: list[Diagnostic] = field(default_factory=list)
    _known: set[Diagnostic] = field(default_factory=set)

    def error(self, code: str, message: str, where: Position | None, hint: str = "", **more: Any) -> None:
        self.add(Diagnostic(code, message, where, hint, **more))

    def add(self, diagnostic: Diagnostic) -> None:
        """Adds a finding once: several stages, or the instance of `expect`, may find the same."""
        if diagnostic not in self._known:
            self._known.add(diagnostic)
            self.diagnostics.append(diagnostic)

    @property
    def has_errors(self) -> bool:
        return any(d.is_error for d in self.diagnostics)


class AsyncpipeError(Exception):
    """Base of everything that asyncpipe raises on purpose."""

    exit_code: ClassVar[int] = 1


class UserError(AsyncpipeError):
    """Something the user can mend: the message says what was expected, found, and what to do.

    `diagnostics` holds all findings where they have codes (`of`), not only the first.
    """

    exit_code = 2

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message if not hint else f"{message}\n  help: {hint}")
        self.message = message
        self.hint = hint
        self.diagnostics: tuple[Diagnostic, ...] = ()

    @classmethod
    def of(cls, *diagnostics: Diagnostic) -> Self:
        """An error with codes, of which there is a page."""
        first = diagnostics[0]
        notes = "".join(f"\n  {text}" for text, _ in first.notes)
        error = cls(f"{_heading(diagnostics)}{first.message}{_more(diagnostics)}{notes}", first.hint)
        error.message, error.diagnostics = first.message, diagnostics
        return error

    def coded(self, code: str) -> Self:
        """The same with a code, unless it has one."""
        return self if self.diagnostics else self.of(Diagnostic(code, self.message, hint=self.hint))

    def within(self, place: str) -> Self:
        """The same, said of `place`: `stream a, action 0F1: ...`."""
        if not self.diagnostics:
            return type(self)(f"{place}: {self.message}", self.hint)
        return self.of(*(replace(one, message=f"{place}: {one.message}") for one in self.diagnostics))


def _heading(diagnostics: Sequence[Diagnostic]) -> str:
    first = diagnostics[0]
    return f"{first.where}: error[{first.code}]: " if first.where else f"error[{first.code}]: "


def _more(diagnostics: Sequence[Diagnostic]) -> str:
    return f" (and {len(diagnostics) - 1} more)" if len(diagnostics) > 1 else ""


class UsageError(UserError):
    """A wrong option, argument or call."""

    exit_code = 2


class ScheduleError(UserError):
    """A schedule or job file is invalid; `diagnostics` holds every finding, not only the first."""

    exit_code = 3

    def __init__(self, diagnostics: Sequence[Diagnostic]) -> None:
        first = diagnostics[0]
        super().__init__(f"{_heading(diagnostics)}{first.message}{_more(diagnostics)}", first.hint)
        self.diagnostics = tuple(diagnostics)

    @classmethod
    def of(cls, *diagnostics: Diagnostic) -> Self:
        return cls(diagnostics)


class MachineError(UserError):
    """This machine cannot do what was asked: a missing device, driver, package or data set."""

    exit_code = 4


_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def full_disk(error: OSError, place: object = "") -> MachineError | None:
    """What `error` says in words where a disk or a quota is full; None where it is something else."""
    if error.errno not in _NO_ROOM:
        return None
    where = f"{place or error.filename}: " if place or error.filename else ""
    return MachineError(f"{where}cannot be written: {error.strerror}", "make room, or write to another disk")


class UserCodeError(UserError):
    """The user's model, data, loss or optimizer raised; the cause is chained."""

    exit_code = 5


class NumericalError(UserError):
    """A loss or a gradient stopped being finite."""

    exit_code = 6


class HangError(UserError):
    """No action finished within the time limit."""

    exit_code = 7


class OutOfMemoryError(UserError):
    """A device, or the host, has less memory than was asked for."""

    exit_code = 8


class CheckpointError(UserError):
    """A checkpoint is missing, damaged, or belongs to another run."""

    exit_code = 9


class InternalError(AsyncpipeError):
    """A bug in asyncpipe; please report it with the text of this error."""

    exit_code = 1

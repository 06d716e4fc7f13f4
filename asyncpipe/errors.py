"""Every error that asyncpipe raises on purpose, and the diagnostics that they carry.

AsyncpipeError
├── UserError                 exit code
│   ├── UsageError            2   a wrong option or argument
│   ├── ScheduleError         3   an invalid schedule or job file; carries diagnostics
│   ├── MachineError          4   this machine cannot do it (no CUDA, too few devices, missing data)
│   ├── UserCodeError         5   the user's model, data or loss raised
│   ├── NumericalError        6   a loss or gradient is not finite
│   ├── HangError             7   nothing moved for too long
│   └── CheckpointError       9   a checkpoint is missing or does not fit
└── InternalError             1   a bug in asyncpipe
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

__all__ = [
    "AsyncpipeError",
    "CheckpointError",
    "Diagnostic",
    "HangError",
    "InternalError",
    "MachineError",
    "NumericalError",
    "Position",
    "Report",
    "ScheduleError",
    "UsageError",
    "UserCodeError",
    "UserError",
    "did_you_mean",
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
    """Something the user can mend: the message says what was expected, found, and what to do."""

    exit_code = 2

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message if not hint else f"{message}\n  help: {hint}")
        self.message = message
        self.hint = hint


class UsageError(UserError):
    """A wrong option, argument or call."""

    exit_code = 2


class ScheduleError(UserError):
    """A schedule or job file is invalid; `diagnostics` holds every finding, not only the first."""

    exit_code = 3

    def __init__(self, diagnostics: Sequence[Diagnostic]) -> None:
        first = diagnostics[0]
        place = f"{first.where}: " if first.where else ""
        more = f" (and {len(diagnostics) - 1} more)" if len(diagnostics) > 1 else ""
        super().__init__(f"{place}error[{first.code}]: {first.message}{more}", first.hint)
        self.diagnostics = tuple(diagnostics)


class MachineError(UserError):
    """This machine cannot do what was asked: a missing device, driver, package or data set."""

    exit_code = 4


class UserCodeError(UserError):
    """The user's model, data, loss or optimizer raised; the cause is chained."""

    exit_code = 5


class NumericalError(UserError):
    """A loss or a gradient stopped being finite."""

    exit_code = 6


class HangError(UserError):
    """No action finished within the time limit."""

    exit_code = 7


class CheckpointError(UserError):
    """A checkpoint is missing, damaged, or belongs to another run."""

    exit_code = 9


class InternalError(AsyncpipeError):
    """A bug in asyncpipe; please report it with the text of this error."""

    exit_code = 1

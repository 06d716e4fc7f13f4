"""Options of built-in models and data sets: a mapping from a job file becomes a checked frozen dataclass."""

from __future__ import annotations

import dataclasses
import difflib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

from asyncpipe.errors import UsageError

__all__ = ["Boolean", "Choice", "Integer", "Integers", "Real", "Text", "option", "read_options", "suggestion"]

Options = TypeVar("Options")


class Domain(Protocol):
    """What an option accepts; `str` of it completes the sentence 'must be ...'."""

    def read(self, value: object) -> Any:
        """The plain value of `value`; ValueError where it is not accepted."""


@dataclass(frozen=True)
class Boolean:
    """True or false."""

    def __str__(self) -> str:
        return "true or false"

    def read(self, value: object) -> bool:
        if not isinstance(value, bool):
            raise ValueError
        return value


@dataclass(frozen=True)
class Integer:
    """An integer from `low` to `high`, both included."""

    low: int
    high: int

    def __str__(self) -> str:
        return f"an integer from {self.low} to {self.high}"

    def read(self, value: object) -> int:
        # YAML's true is an int to Python, but nobody means 1 by it.
        if isinstance(value, bool) or not isinstance(value, int) or not self.low <= value <= self.high:
            raise ValueError
        return int(value)


@dataclass(frozen=True)
class Real:
    """A number of at least `low` and less than `high`."""

    low: float
    high: float

    def __str__(self) -> str:
        return f"a number of at least {self.low:g} and less than {self.high:g}"

    def read(self, value: object) -> float:
        if isinstance(value, bool) or not isinstance(value, int | float) or not self.low <= value < self.high:
            raise ValueError
        return float(value)


@dataclass(frozen=True)
class Text:
    """A text that is not empty; `what` says what it names."""

    what: str

    def __str__(self) -> str:
        return self.what

    def read(self, value: object) -> str:
        if not isinstance(value, str) or not value:
            raise ValueError
        return value


@dataclass(frozen=True)
class Integers:
    """A list of `shortest` to `longest` integers, each in `item`."""

    item: Integer
    shortest: int
    longest: int

    def __str__(self) -> str:
        low, high = self.item.low, self.item.high
        return f"a list of {self.shortest} to {self.longest} integers from {low} to {high}"

    def read(self, value: object) -> tuple[int, ...]:
        if isinstance(value, str) or not isinstance(value, Sequence):
            raise ValueError
        if not self.shortest <= len(value) <= self.longest:
            raise ValueError
        return tuple(self.item.read(item) for item in value)


@dataclass(frozen=True)
class Choice:
    """One of a few words."""

    words: tuple[str, ...]

    def __str__(self) -> str:
        return " or ".join(self.words)

    def read(self, value: object) -> str:
        if not isinstance(value, str) or value not in self.words:
            raise ValueError
        return str(value)


def option(default: Any, domain: Domain) -> Any:
    """A dataclass field with its domain; a default of None makes the option one that may be left out."""
    return dataclasses.field(default=default, metadata={"domain": domain})


def read_options(kind: type[Options], owner: str, options: Mapping[str, object]) -> Options:
    """An instance of the dataclass `kind`; UsageError lists everything that `owner` does not accept."""
    domains = {field.name: field.metadata["domain"] for field in dataclasses.fields(kind)}  # type: ignore[arg-type]
    problems: list[str] = []
    values: dict[str, object] = {}
    for name, value in options.items():
        if name not in domains:
            problems.append(f"{owner} has no option {name!r}{suggestion(str(name), domains)}")
            continue
        try:
            values[name] = _read(kind, name, value, domains[name])
        except ValueError:
            problems.append(f"{owner}: option {name!r} must be {domains[name]}, found {value!r}")
    if problems:
        raise UsageError("; ".join(problems), _allowed(owner, domains))
    return kind(**values)


def suggestion(word: str, known: Collection[str]) -> str:
    """' (did you mean ...?)' where a known word is near, else nothing."""
    near = difflib.get_close_matches(word, known, n=1)
    return f" (did you mean {near[0]!r}?)" if near else ""


def _read(kind: type[object], name: str, value: object, domain: Domain) -> object:
    if value is None and getattr(kind, name) is None:
        return None
    return domain.read(value)


def _allowed(owner: str, domains: Mapping[str, Domain]) -> str:
    if not domains:
        return "it takes none"
    return f"options of {owner}: " + "; ".join(f"{name}: {domain}" for name, domain in domains.items())

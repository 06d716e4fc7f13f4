"""Measured costs: `{"schema": "asyncpipe.profile/1", "costs": {"F": [0.0012, ...], "B": [...]}, ...}`, in seconds.

One number for all stages, or a list with one for each. Further keys of the file say how it was measured; nothing here
depends on them.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

from asyncpipe.errors import Position, Report, did_you_mean
from asyncpipe.schedule.source import MAX_BYTES, Mapping, Node, Sequence, parse_text
from asyncpipe.schedule.spec import Costs

__all__ = ["PROFILE_SCHEMA", "is_profile", "read_profile"]

PROFILE_SCHEMA = "asyncpipe.profile/1"
_KEYS = ("F", "B", "I", "W", "U", "R", "SEND", "SYNC")
_MAX_BYTES = 4 * 1024 * 1024
_RESOLUTION = 10**12
"""Measured times count in whole picoseconds."""
_MOST = 10**12
_FORM = f'write {{"schema": "{PROFILE_SCHEMA}", "costs": {{"F": 0.001, "B": [0.002, 0.003]}}}}, in seconds, into it'
KeyPath = tuple[str | int, ...]


def is_profile(text: str) -> bool:
    """Whether an option's value names a file of measured costs, and is not the costs themselves."""
    return text.endswith(".json")


def read_profile(path: str | Path, report: Report, named: Position | None = None) -> Costs | None:
    """The costs of a measured profile, or None with every finding in the report; `named` is what named the file."""
    text = _read(Path(path), report, named)
    if text is None:
        return None
    found = _Profile(str(path), text, report)
    return found.costs()


def _read(path: Path, report: Report, named: Position | None) -> str | None:
    where = named or Position(str(path), 1, 1)
    subject = f"{path}: " if named else ""
    try:
        with path.open("rb") as stream:
            data = stream.read(_MAX_BYTES + 1)
        if len(data) > _MAX_BYTES:
            report.error("AP100", f"{subject}expected a profile, found more than {_MAX_BYTES:,} bytes", where)
            return None
        return data.decode()
    except UnicodeDecodeError:
        report.error("AP100", f"{subject}expected UTF-8 text", where, "save the file as UTF-8")
    except (OSError, ValueError) as error:
        cause = getattr(error, "strerror", None) or error
        report.error("AP100", f"{subject}cannot be read: {cause}", where, _FORM)
    return None


class _Duplicate(ValueError):
    """A key stands twice in one object."""


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        raise _Duplicate(next(name for name in names if names.count(name) > 1))
    return found


def _number(text: str) -> Fraction | float:
    """A decimal number, exactly; a float where its exponent is out of all bounds, which no cost is."""
    _, _, exponent = text.lower().partition("e")
    if int(exponent or 0) < -30:
        return Fraction(0)
    return Fraction(text) if int(exponent or 0) <= 30 else float(text)


class _Profile:
    """One file while it is read: findings name the key, and the place where the file is small enough to find it."""

    def __init__(self, file: str, text: str, report: Report) -> None:
        self.file = file
        self.text = text
        self.report = report
        self.failed = False

    def error(self, code: str, message: str, path: KeyPath, hint: str = "") -> None:
        self.failed = True
        self.report.error(code, message, _place(self.text, self.file, path), hint)

    def costs(self) -> Costs | None:
        document = self._document()
        if document is None:
            return None
        if document.get("schema") != PROFILE_SCHEMA:
            message = f'expected "schema": "{PROFILE_SCHEMA}", found {_shown(document.get("schema"))}'
            self.error("AP105", message, ("schema",), "is it the right file?")
        values = document.get("costs")
        if not isinstance(values, dict) or not values:
            self.error("AP106", f'expected "costs": {{"F": [...], ...}}, found {_shown(values)}', ("costs",))
            return None
        times = tuple(self._times(values))
        self._same_lengths(times)
        return None if self.failed else Costs(tuple(sorted(times)))

    def _document(self) -> dict[str, Any] | None:
        try:
            document = json.loads(self.text, parse_float=_number, parse_constant=str, object_pairs_hook=_object)
        except json.JSONDecodeError as error:
            where = Position(self.file, error.lineno, error.colno)
            self.report.error("AP101", f"JSON syntax: {error.msg[:1].lower()}{error.msg[1:]}", where)
            return None
        except _Duplicate as error:
            self.error("AP103", f"the key {str(error)!r} stands twice", ())
            return None
        except (ValueError, RecursionError) as error:
            self.error("AP101", f"JSON: {error}", ())
            return None
        if not isinstance(document, dict):
            self.error("AP105", f"expected a profile, a JSON object, found {_shown(document)}", ())
            return None
        return document

    def _times(self, values: dict[str, Any]) -> Iterator[tuple[str, tuple[Fraction, ...]]]:
        for name, value in values.items():
            if name not in _KEYS:
                self.error("AP104", f"unknown op {name!r} in costs", ("costs", name), did_you_mean(name, _KEYS))
                continue
            several = value if isinstance(value, list) else [value]
            if not several:
                self.error("AP105", f"costs.{name}: expected a list with one number for each stage", ("costs", name))
            numbers = [self._number(each, _item(name, value, i)) for i, each in enumerate(several)]
            yield name, tuple(number for number in numbers if number is not None)

    def _number(self, value: Any, path: KeyPath) -> Fraction | None:
        if isinstance(value, bool) or not isinstance(value, int | Fraction) or not 0 <= value <= _MOST:
            key = "costs." + str(path[1]) + "".join(f"[{i}]" for i in path[2:])
            self.error("AP105", f"{key}: expected a number of seconds from 0 to 1e12, found {_shown(value)}", path)
            return None
        return Fraction(round(value * _RESOLUTION), _RESOLUTION)

    def _same_lengths(self, times: tuple[tuple[str, tuple[Fraction, ...]], ...]) -> None:
        lengths = {len(values): name for name, values in times if len(values) > 1}
        if len(lengths) > 1 and not self.failed:
            (one, first), (other, second) = list(lengths.items())[:2]
            message = f"costs of {first} are for {one} stages, those of {second} for {other}"
            self.error("AP105", message, ("costs", second), "each list has one number for each stage")


def _item(name: str, value: Any, i: int) -> KeyPath:
    return ("costs", name, i) if isinstance(value, list) else ("costs", name)


def _shown(value: Any) -> str:
    """What stands there, in words."""
    if value is None:
        return "nothing"
    if isinstance(value, dict | list):
        return "an object" if isinstance(value, dict) else "a list"
    text = str(float(value)) if isinstance(value, Fraction) else json.dumps(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _place(text: str, file: str, path: KeyPath) -> Position:
    """Where the value at `path` stands; the beginning of the file where that cannot be told."""
    begin = Position(file, 1, 1)
    if len(text) > MAX_BYTES or not path:
        return begin
    node = parse_text(text, file, Report())
    where = node.where if node is not None else begin
    for step in path:
        node = _child(node, step)
        if node is None:
            break
        where = node.where
    return where


def _child(node: Node | None, step: str | int) -> Node | None:
    if isinstance(node, Mapping) and isinstance(step, str):
        return node.get(step)
    if isinstance(node, Sequence) and isinstance(step, int):
        return node.items[step]
    return None

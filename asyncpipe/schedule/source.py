"""YAML 1.2 text to nodes that remember where they stand.

Only data is let in: tags, anchors, aliases, several documents and duplicate keys are errors, so that a file
means what it seems to mean and cannot grow when it is read. The tree is built from the parser's events.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from asyncpipe.errors import Diagnostic, Position

__all__ = [
    "MAX_BYTES",
    "Mapping",
    "Node",
    "Report",
    "Scalar",
    "Sequence",
    "parse_text",
    "read_file",
    "scalar_value",
]

MAX_BYTES = 256 * 1024
"""A schedule is a page of text; a larger file is a mistake, and is refused before it is parsed."""
_MAX_DEPTH = 32

_INTEGER = re.compile(r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_CONSTANTS: dict[str, object] = {"": None, "~": None, "null": None, "true": True, "false": False}


@dataclass(frozen=True)
class Scalar:
    """A scalar: its value by the YAML 1.2 core schema, and the text as written."""

    value: object
    text: str
    where: Position
    quoted: bool = False

    def at(self, offset: int, length: int = 1) -> Position:
        """The position of a part of this scalar, for errors inside a rule or an expression."""
        column = self.where.column + offset + (1 if self.quoted else 0)
        return Position(self.where.file, self.where.line, column, length)


@dataclass(frozen=True)
class Sequence:
    items: tuple[Node, ...]
    where: Position


@dataclass(frozen=True)
class Mapping:
    items: tuple[tuple[Scalar, Node], ...]
    where: Position

    def get(self, key: str) -> Node | None:
        return next((value for name, value in self.items if name.value == key), None)


Node = Scalar | Sequence | Mapping


@dataclass
class Report:
    """Collects diagnostics, so that one check can tell all that is wrong at once."""

    diagnostics: list[Diagnostic] = field(default_factory=list)

    def error(self, code: str, message: str, where: Position | None, hint: str = "", **more: Any) -> None:
        self.diagnostics.append(Diagnostic(code, message, where, hint, **more))

    @property
    def has_errors(self) -> bool:
        return any(d.is_error for d in self.diagnostics)


def scalar_value(text: str) -> object:
    """The value of a plain scalar by YAML 1.2's core schema: `1e-3` is a float, `1:2` and `yes` are strings."""
    if text.lower() in _CONSTANTS and text in (text.lower(), text.capitalize(), text.upper()):
        return _CONSTANTS[text.lower()]
    if _INTEGER.fullmatch(text):
        return int(text, 0) if text[:2] in ("0x", "0o") else int(text)
    return float(text) if _FLOAT.fullmatch(text) else text


def read_file(path: str | Path, report: Report) -> str | None:
    """The text of a schedule or job file, or None with an AP100 that says why it cannot be read."""
    file = Path(path)
    where = Position(str(path), 1, 1)
    try:
        if file.is_dir():
            report.error("AP100", "is a directory, not a schedule file", where, "name a .yaml file")
            return None
        size = file.stat().st_size
        if size > MAX_BYTES:
            report.error("AP100", f"the file has {size:,} bytes; a schedule has at most {MAX_BYTES:,}", where)
            return None
        data = file.read_bytes()
    except FileNotFoundError:
        report.error("AP100", "no such file", where, "`asyncpipe schedules` lists the built-in schedules")
        return None
    except OSError as error:
        report.error("AP100", f"cannot be read: {error.strerror}", where)
        return None
    return _decode(data, where, report)


def _decode(data: bytes, where: Position, report: Report) -> str | None:
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        report.error("AP100", f"is not UTF-8 text: byte {error.start} is 0x{data[error.start]:02x}", where)
        return None
    bad = next((c for c in text if ord(c) < 32 and c not in "\n\r\t"), None)
    if bad is not None:
        report.error("AP100", f"is not a text file: it holds the control character 0x{ord(bad):02x}", where)
        return None
    return text


def parse_text(text: str, file: str, report: Report) -> Node | None:
    """The node tree of one YAML document, or None after a syntax error (AP101) or a refused feature (AP102)."""
    from ruamel.yaml import YAML
    from ruamel.yaml.error import MarkedYAMLError, YAMLError

    try:
        composer = _Composer(file, report, iter(YAML(typ="rt", pure=True).parse(text)))
        return composer.document()
    except MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = Position(file, mark.line + 1, mark.column + 1) if mark else Position(file, 1, 1)
        problem = " ".join(str(error.problem or error.context or "not valid YAML").split())
        report.error("AP101", f"YAML syntax: {problem}", where)
    except YAMLError as error:
        report.error("AP101", f"YAML syntax: {' '.join(str(error).split())[:200]}", Position(file, 1, 1))
    except _Refused:
        pass
    return None


class _Refused(Exception):
    """A feature was refused; the diagnostic is already in the report."""


class _Composer:
    def __init__(self, file: str, report: Report, events: Iterator[Any]) -> None:
        self.file = file
        self.report = report
        self.events = events

    def where(self, event: Any, length: int = 1) -> Position:
        return Position(self.file, event.start_mark.line + 1, event.start_mark.column + 1, length)

    def refuse(self, event: Any, message: str, hint: str) -> None:
        self.report.error("AP102", message, self.where(event), hint)
        raise _Refused

    def document(self) -> Node | None:
        next(self.events)  # stream start
        event = next(self.events)
        if type(event).__name__ == "StreamEndEvent":
            self.report.error(
                "AP100",
                "the file is empty",
                Position(self.file, 1, 1),
                "`asyncpipe show async-lu --level L0` prints a complete schedule",
            )
            return None
        root = self.node(next(self.events), 0)
        next(self.events)  # document end
        event = next(self.events)
        if type(event).__name__ != "StreamEndEvent":
            self.refuse(event, "a second YAML document starts here", "put one schedule into one file")
        return root

    def node(self, event: Any, depth: int) -> Node:
        self._check_plain(event, depth)
        name = type(event).__name__
        if name == "ScalarEvent":
            quoted = event.style is not None
            value = event.value if quoted else scalar_value(event.value)
            return Scalar(value, event.value, self.where(event, max(1, len(event.value))), quoted)
        return self._sequence(event, depth) if name == "SequenceStartEvent" else self._mapping(event, depth)

    def _check_plain(self, event: Any, depth: int) -> None:
        if type(event).__name__ == "AliasEvent":
            self.refuse(
                event,
                "aliases (*name) are not allowed",
                "write the value out; `extends` shares whole schedules",
            )
        if getattr(event, "anchor", None):
            self.refuse(event, f"anchors (&{event.anchor}) are not allowed", "write the value out where it is needed")
        tag = getattr(event, "tag", None)
        if tag is not None:
            self.refuse(event, f"the tag {tag} is not allowed", "schedules are plain data: remove the tag")
        if depth > _MAX_DEPTH:
            self.refuse(event, f"nested deeper than {_MAX_DEPTH} levels", "a schedule needs four")

    def _sequence(self, start: Any, depth: int) -> Sequence:
        items = []
        while type(event := next(self.events)).__name__ != "SequenceEndEvent":
            items.append(self.node(event, depth + 1))
        return Sequence(tuple(items), self.where(start))

    def _mapping(self, start: Any, depth: int) -> Mapping:
        items: list[tuple[Scalar, Node]] = []
        seen: dict[object, Scalar] = {}
        while type(event := next(self.events)).__name__ != "MappingEndEvent":
            key = self.node(event, depth + 1)
            value = self.node(next(self.events), depth + 1)
            if not isinstance(key, Scalar):
                self.report.error("AP105", "a key must be a word", key.where)
            elif key.value in seen:
                line = seen[key.value].where.line
                self.report.error(
                    "AP103",
                    f"duplicate key {key.text!r}, first in line {line}",
                    key.where,
                    "keep one of the two",
                )
            else:
                seen[key.value] = key
                items.append((key, value))
        return Mapping(tuple(items), self.where(start))

"""YAML 1.2 text to nodes that remember where they stand.

Only data is let in: tags, anchors, aliases, several documents and duplicate keys are errors, so that a file
means what it seems to mean and cannot grow when it is read. The tree is built from the parser's events.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from asyncpipe.errors import Diagnostic, Position, Report

__all__ = [
    "MAX_BYTES",
    "Mapping",
    "Node",
    "Report",
    "Scalar",
    "Sequence",
    "file_beside",
    "override_file",
    "parse_text",
    "read_file",
    "scalar_value",
]

MAX_BYTES = 64 * 1024
"""A schedule is a page of text; a larger file is a mistake, and is refused before it is parsed."""
_MAX_DEPTH = 32

_INTEGER = re.compile(r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+")
_MAX_DIGITS = 1000
"""Python refuses to convert more than 4,300; a longer integer reads as the nearest float."""
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_CONSTANTS: dict[str, object] = {"": None, "~": None, "null": None, "true": True, "false": False}
_NOT_TEXT = re.compile("[^\t\n\r\x20-\x7e\xa0-\u2027\u202a-\ufffd\U00010000-\U0010ffff]")
"""Control characters, and those that some programs, but not YAML 1.2, take for the end of a line."""
_SYNTAX_HINTS = (
    (r"alphabetic or numeric character", "put a rule that holds `*` into quotes"),
    (r"'\\t'", "indent with spaces: YAML allows no tabs there"),
    (r"'[@`%]' that cannot start", "put the text into quotes"),
    (r"block (mapping|end|collection)", "the keys of one mapping begin in the same column"),
    (r"mapping values", "put a text that holds `: ` into quotes; the keys of one mapping begin in the same column"),
    (r"expected '?,' or|node content", "is a bracket, a brace or a comma missing before this place?"),
    (r"escape character", "in double quotes a backslash is \\\\"),
    (r"unexpected end of stream|document separator", "is a closing quote missing?"),
    (r"expected ':'", "each line of a mapping is `key: value`"),
)


@dataclass(frozen=True)
class Scalar:
    """A scalar: its value by the YAML 1.2 core schema, and the text as written."""

    value: object
    text: str
    where: Position
    quoted: bool = False

    def at(self, offset: int, length: int = 1) -> Position:
        """The position of a part of this scalar, for errors inside a rule or an expression.

        The whole scalar where escapes or line breaks make the text differ from what is written.
        """
        quote = 1 if self.quoted else 0
        if self.where.length != len(self.text) + 2 * quote:
            return self.where
        return Position(self.where.file, self.where.line, self.where.column + offset + quote, length)


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


def scalar_value(text: str) -> object:
    """The value of a plain scalar by YAML 1.2's core schema: `1e-3` is a float, `1:2` and `yes` are strings."""
    if text.lower() in _CONSTANTS and text in (text.lower(), text.capitalize(), text.upper()):
        return _CONSTANTS[text.lower()]
    if _INTEGER.fullmatch(text):
        return int(text, 0) if text[:2] in ("0x", "0o") else int(text) if len(text) < _MAX_DIGITS else float(text)
    return float(text) if _FLOAT.fullmatch(text) else text


_OVERRIDE = "<-o "
_LONGEST_OVERRIDE = 60


def override_file(override: str) -> str:
    """What stands for the file of an override's value: `<-o in_flight=4>`."""
    text = " ".join(override.split())
    return f"{_OVERRIDE}{text if len(text) <= _LONGEST_OVERRIDE else text[: _LONGEST_OVERRIDE - 3] + '...'}>"


def file_beside(where: Position, name: str) -> Path:
    """A file that is named at `where`: relative to that file, from the command line to the working directory."""
    return Path(name) if where.file.startswith(_OVERRIDE) else Path(where.file).parent / name


def read_file(path: str | Path, report: Report, named: Position | None = None) -> str | None:
    """The text of a schedule or job file, or None with an AP100 that says why it cannot be read.

    `named` is the place in another file that names this one.
    """
    file = Path(path)
    where = named or Position(str(path), 1, 1)
    subject = f"{path}: " if named else ""
    try:
        if file.is_dir():
            report.error("AP100", f"{subject}expected a file, found a directory", where, "name a .yaml file")
            return None
        with file.open("rb") as stream:
            data = stream.read(MAX_BYTES + 1)
    except FileNotFoundError:
        report.error("AP100", f"{subject}no such file", where, "`asyncpipe schedules` lists the built-in ones")
        return None
    except (OSError, ValueError) as error:
        report.error("AP100", f"{subject}cannot be read: {getattr(error, 'strerror', error)}", where)
        return None
    if len(data) > MAX_BYTES:
        message = f"{subject}expected a page of text, found more than {MAX_BYTES:,} bytes"
        report.error("AP100", message, where, "is it the right file?")
        return None
    return _decode(data, Position(str(path), 1, 1), report)


def _decode(data: bytes, where: Position, report: Report) -> str | None:
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        message = f"expected UTF-8 text, found the byte 0x{data[error.start]:02x} at offset {error.start}"
        report.error("AP100", message, where, "save the file as UTF-8")
        return None
    bad = _NOT_TEXT.search(text)
    if bad is not None:
        lines = re.split(r"\r\n?|\n", text[: bad.start()])
        place = Position(where.file, len(lines), len(lines[-1]) + 1)
        report.error("AP100", f"expected text, found the control character U+{ord(bad[0]):04X}", place, "remove it")
        return None
    return text


def parse_text(text: str, file: str, report: Report) -> Node | None:
    """The node tree of one YAML document, or None after a syntax error (AP101) or a refused feature (AP102)."""
    node, findings = _parsed(text, file)
    for finding in findings:
        report.add(finding)
    return node


@lru_cache(maxsize=64)
def _parsed(text: str, file: str) -> tuple[Node | None, tuple[Diagnostic, ...]]:
    """Kept, since YAML takes most of the time of reading: the files of one command extend the same few."""
    report = Report()
    node = _composed(text, file, report)
    return node, tuple(report.diagnostics)


def _composed(text: str, file: str, report: Report) -> Node | None:
    from ruamel.yaml import YAML
    from ruamel.yaml.error import MarkedYAMLError, YAMLError

    try:
        composer = _Composer(file, report, iter(YAML(typ="safe", pure=True).parse(text)))
        return composer.document()
    except MarkedYAMLError as error:
        report.add(_syntax_error(error, file))
    except YAMLError as error:
        report.error("AP101", f"YAML syntax: {' '.join(str(error).split())[:200]}", Position(file, 1, 1))
    except _Refused:
        pass
    return None


def _syntax_error(error: Any, file: str) -> Diagnostic:
    def place(mark: Any) -> Position:
        return Position(file, mark.line + 1, mark.column + 1) if mark else Position(file, 1, 1)

    problem = " ".join(str(error.problem or error.context or "not valid YAML").split())
    hint = next((hint for pattern, hint in _SYNTAX_HINTS if re.search(pattern, problem)), "")
    context = error.context_mark if error.problem_mark else None
    notes = ((f"{error.context} that begins here", place(context)),) if context and error.context else ()
    return Diagnostic("AP101", f"YAML syntax: {problem}", place(error.problem_mark or context), hint, notes=notes)


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
        if event.version or event.tags:
            self.refuse(event, "directives (%YAML, %TAG) are not allowed", "remove the line: a schedule is YAML 1.2")
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
            return Scalar(value, event.value, self.where(event, self._length(event)), quoted)
        return self._sequence(event, depth) if name == "SequenceStartEvent" else self._mapping(event, depth)

    def _length(self, event: Any) -> int:
        """Of what is written, quotes included; 1 for what is written on several lines."""
        start, end = event.start_mark, event.end_mark
        return max(1, end.column - start.column) if end.line == start.line else 1

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
            shown = tag.replace("tag:yaml.org,2002:", "!!", 1)
            self.refuse(event, f"the tag {shown} is not allowed", "schedules are plain data: remove the tag")
        if any("\ud800" <= c <= "\udfff" for c in getattr(event, "value", "")):
            self.refuse(event, "half a surrogate pair is no character", "write the character itself")
        if depth > _MAX_DEPTH:
            self.refuse(event, f"nested deeper than {_MAX_DEPTH} levels", "a schedule needs four")

    def _sequence(self, start: Any, depth: int) -> Sequence:
        items = []
        while type(event := next(self.events)).__name__ != "SequenceEndEvent":
            items.append(self.node(event, depth + 1))
        return Sequence(tuple(items), self.where(start))

    def _mapping(self, start: Any, depth: int) -> Mapping:
        items: list[tuple[Scalar, Node]] = []
        seen: dict[str, Scalar] = {}
        while type(event := next(self.events)).__name__ != "MappingEndEvent":
            key = self.node(event, depth + 1)
            value = self.node(next(self.events), depth + 1)
            if not isinstance(key, Scalar):
                self.report.error("AP105", "expected a key, found a list or a mapping", key.where, "a key is one word")
            elif key.text in seen:
                line = seen[key.text].where.line
                self.report.error(
                    "AP103",
                    f"duplicate key {key.text!r}, first in line {line}",
                    key.where,
                    "keep one of the two",
                )
            else:
                seen[key.text] = key
                items.append((key, value))
        return Mapping(tuple(items), self.where(start))

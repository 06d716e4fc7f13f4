"""The kinds of values that a file may hold. A format is a table of these; one pass checks it and fills in defaults.

A kind reads a node: it returns the value, or MISSING after it put every error of the node into the report.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any, Protocol

from asyncpipe.errors import did_you_mean
from asyncpipe.schedule.expression import ExpressionError
from asyncpipe.schedule.source import Mapping, Node, Report, Scalar
from asyncpipe.schedule.source import Sequence as SequenceNode

__all__ = [
    "MISSING",
    "Choice",
    "Integer",
    "Key",
    "Kind",
    "ListOf",
    "MapOf",
    "Object",
    "OneOf",
    "Parsed",
    "Real",
    "Text",
    "found",
]


class _Missing:
    def __repr__(self) -> str:
        return "MISSING"


MISSING: Any = _Missing()


class Kind(Protocol):
    @property
    def expects(self) -> str: ...

    def accepts(self, node: Node) -> bool:
        """Whether the node has the outer form of this kind, so that its errors are the ones to tell."""
        ...

    def read(self, node: Node, report: Report) -> Any: ...


def found(node: Node) -> str:
    """What stands there, in words."""
    if isinstance(node, Mapping):
        return "a mapping"
    if isinstance(node, SequenceNode):
        return "a list"
    if node.value is None:
        return "nothing"
    kinds: dict[type, str] = {bool: "the truth value", int: "the number", float: "the number"}
    text = node.text if len(node.text) <= 60 else node.text[:57] + "..."
    return (
        f"{kinds.get(type(node.value), 'the text')} {text!r}"
        if type(node.value) is str
        else f"{kinds[type(node.value)]} {text}"
    )


def _wrong(kind: Kind, node: Node, report: Report) -> Any:
    report.error("AP105", f"expected {kind.expects}, found {found(node)}", node.where)
    return MISSING


@dataclass(frozen=True)
class Integer:
    low: int = 0
    high: int = 10**6

    @property
    def expects(self) -> str:
        return f"an integer from {self.low} to {self.high:,}"

    def accepts(self, node: Node) -> bool:
        return isinstance(node, Scalar) and type(node.value) is int

    def read(self, node: Node, report: Report) -> Any:
        if isinstance(node, Scalar) and type(node.value) is int and self.low <= node.value <= self.high:
            return node.value
        return _wrong(self, node, report)


@dataclass(frozen=True)
class Real:
    """A number, exactly: `0.1`, `1e-3` and `1/3` become fractions."""

    low: Fraction = Fraction(0)
    exact: bool = True

    @property
    def expects(self) -> str:
        return f"a number of at least {self.low}"

    def accepts(self, node: Node) -> bool:
        return isinstance(node, Scalar) and type(node.value) in (int, float, str)

    def read(self, node: Node, report: Report) -> Any:
        if self.accepts(node) and isinstance(node, Scalar):
            try:
                value = Fraction(node.text)
            except (ValueError, ZeroDivisionError):
                return _wrong(self, node, report)
            if value >= self.low and value.denominator < 10**12 and value < 10**12:
                return value if self.exact else float(value)
        return _wrong(self, node, report)


@dataclass(frozen=True)
class Text:
    what: str = "a text"
    lines: bool = False

    @property
    def expects(self) -> str:
        return self.what

    def accepts(self, node: Node) -> bool:
        return isinstance(node, Scalar) and isinstance(node.value, str)

    def read(self, node: Node, report: Report) -> Any:
        if isinstance(node, Scalar) and isinstance(node.value, str) and node.value.strip():
            return " ".join(node.value.split()) if not self.lines else node.value
        return _wrong(self, node, report)


@dataclass(frozen=True)
class Choice:
    choices: tuple[str, ...]
    code: str = "AP105"
    what: str = ""

    @property
    def expects(self) -> str:
        return self.what or f"one of {', '.join(self.choices)}"

    def accepts(self, node: Node) -> bool:
        return isinstance(node, Scalar) and isinstance(node.value, str)

    def read(self, node: Node, report: Report) -> Any:
        if isinstance(node, Scalar) and node.value in self.choices:
            return node.value
        hint = did_you_mean(node.text, self.choices) if isinstance(node, Scalar) else ""
        report.error(
            self.code,
            f"expected {self.expects}, found {found(node)}",
            node.where,
            hint if "did" in hint else "",
        )
        return MISSING


@dataclass(frozen=True)
class Parsed:
    """A small language inside a scalar: an expression, a rule, a range of layers."""

    expects: str
    parse: Callable[[str], Any]
    code: str

    def accepts(self, node: Node) -> bool:
        return isinstance(node, Scalar) and type(node.value) in (int, str)

    def read(self, node: Node, report: Report) -> Any:
        if not isinstance(node, Scalar) or not self.accepts(node):
            return _wrong(self, node, report)
        try:
            value = self.parse(node.text)
        except ExpressionError as error:
            report.error(self.code, error.message, node.at(error.offset, error.length))
            return MISSING
        return value


@dataclass(frozen=True)
class ListOf:
    item: Kind
    least: int = 0

    @property
    def expects(self) -> str:
        return f"a list, each item {self.item.expects}"

    def accepts(self, node: Node) -> bool:
        return isinstance(node, SequenceNode)

    def read(self, node: Node, report: Report) -> Any:
        if not isinstance(node, SequenceNode) or len(node.items) < self.least:
            return _wrong(self, node, report)
        values = [self.item.read(item, report) for item in node.items]
        return MISSING if MISSING in values else tuple(values)


@dataclass(frozen=True)
class OneOf:
    """The first kind that accepts the node's outer form reads it."""

    kinds: tuple[Kind, ...]

    @property
    def expects(self) -> str:
        return ", or ".join(kind.expects for kind in self.kinds)

    def accepts(self, node: Node) -> bool:
        return any(kind.accepts(node) for kind in self.kinds)

    def read(self, node: Node, report: Report) -> Any:
        kind = next((kind for kind in self.kinds if kind.accepts(node)), None)
        return _wrong(self, node, report) if kind is None else kind.read(node, report)


@dataclass(frozen=True)
class MapOf:
    """A mapping with free keys of one pattern; the value is a tuple of (name, value, position)."""

    what: str
    pattern: str
    item: Kind

    @property
    def expects(self) -> str:
        return self.what

    def accepts(self, node: Node) -> bool:
        return isinstance(node, Mapping)

    def read(self, node: Node, report: Report) -> Any:
        if not isinstance(node, Mapping) or not node.items:
            return _wrong(self, node, report)
        for name, _ in node.items:
            if not re.fullmatch(self.pattern, name.text):
                report.error("AP105", f"{name.text!r} is not a name: letters, digits, - and _ are", name.where)
        values = [(name.text, self.item.read(value, report), name.where) for name, value in node.items]
        return MISSING if any(value is MISSING for _, value, _ in values) else tuple(values)


@dataclass(frozen=True)
class Key:
    """One key of an object: its kind, its default (MISSING: required), and a line of documentation."""

    name: str
    kind: Kind
    default: Any = MISSING
    about: str = ""


@dataclass(frozen=True)
class Object:
    """A mapping with known keys. `build` gets the values by name and `places`, the position of each key ("": of all).

    `later` names keys of the format that this version cannot compile yet.
    """

    what: str
    keys: tuple[Key, ...]
    build: Callable[..., Any]
    later: tuple[str, ...] = field(default=())

    @property
    def expects(self) -> str:
        return self.what

    def accepts(self, node: Node) -> bool:
        return isinstance(node, Mapping)

    def read(self, node: Node, report: Report) -> Any:
        if not isinstance(node, Mapping):
            return _wrong(self, node, report)
        known = {key.name: key for key in self.keys}
        values = {key.name: key.default for key in self.keys}
        before = len(report.diagnostics)
        for name, value in node.items:
            if name.value in known:
                values[str(name.value)] = known[str(name.value)].kind.read(value, report)
            else:
                self._unknown(name, tuple(known), report)
        for key in self.keys:
            if key.default is MISSING and node.get(key.name) is None:
                report.error(
                    "AP106",
                    f"the key {key.name!r} is missing in {self.what}",
                    node.where,
                    f"add `{key.name}:`, {key.kind.expects}",
                )
        failed = len(report.diagnostics) > before or any(v is MISSING for v in values.values())
        places = {"": node.where, **{str(name.value): name.where for name, _ in node.items}}
        return MISSING if failed else self.build(places=places, **values)

    def _unknown(self, name: Scalar, known: tuple[str, ...], report: Report) -> None:
        if name.text in self.later:
            message = f"the key {name.text!r} is part of the format, but this version cannot compile it yet"
            report.error("AP108", message, name.where, "remove it, or use a later version")
        else:
            report.error(
                "AP104",
                f"unknown key {name.text!r} in {self.what}",
                name.where,
                did_you_mean(name.text, known),
            )

"""The kinds of values that a file may hold. A format is a table of these; one pass checks it and fills in defaults.

A kind reads a node: it returns the value, or MISSING after it put every error of the node into the report.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from math import inf
from typing import Any, Protocol
from unicodedata import category

from asyncpipe.errors import Position, did_you_mean
from asyncpipe.schedule.expression import ExpressionError
from asyncpipe.schedule.json_schema import NUMBER_PATTERN, Schema, default_of, described, schema_of
from asyncpipe.schedule.source import Mapping, Node, Report, Scalar, scalar_value
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
    "fraction",
]


class _Missing:
    def __repr__(self) -> str:
        return "MISSING"


MISSING: Any = _Missing()
_EXPONENT = re.compile(r"[eE]([-+]?[0-9]+)$")


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
        return "a mapping" if node.items else "an empty mapping"
    if isinstance(node, SequenceNode):
        return "a list" if node.items else "an empty list"
    text = node.text if len(node.text) <= 60 else node.text[:57] + "..."
    if node.value is None:
        return "nothing"
    if isinstance(node.value, str):
        return f"the text {text!r}"
    return f"the truth value {text}" if isinstance(node.value, bool) else f"the number {text}"


def _wrong(kind: Kind, node: Node, report: Report, hint: str = "") -> Any:
    if isinstance(node, Scalar) and node.value is None:
        hint = "write a value after the colon, or remove the key"
    report.error("AP105", f"expected {kind.expects}, found {found(node)}", node.where, hint)
    return MISSING


def _hint(word: str, known: Sequence[str]) -> str:
    """The known word that was meant; capitals do not matter."""
    same = [name for name in known if name.casefold() == word.casefold()]
    return f"did you mean {same[0]!r}?" if same else did_you_mean(word, known)


@dataclass(frozen=True)
class Integer:
    low: int = 0
    high: int = 10**6
    what: str = ""

    @property
    def expects(self) -> str:
        return self.what or f"an integer from {self.low} to {self.high:,}"

    def accepts(self, node: Node) -> bool:
        return isinstance(node, Scalar) and type(node.value) is int

    def read(self, node: Node, report: Report) -> Any:
        if isinstance(node, Scalar) and type(node.value) is int and self.low <= node.value <= self.high:
            return node.value
        number = isinstance(node, Scalar) and node.quoted and type(scalar_value(node.text)) is int
        return _wrong(self, node, report, "remove the quotes" if number else "")

    def schema(self) -> Schema:
        limits = {"enum": [self.low]} if self.low == self.high else {"minimum": self.low, "maximum": self.high}
        return described({"type": "integer", **limits}, self.what)


def fraction(text: str) -> Fraction | None:
    """The number, exactly, where it is at most 1e12 and a multiple of 1e-12 or a fraction; None for anything else."""
    exponent = _EXPONENT.search(text)
    if len(text) > 60 or (exponent and abs(int(exponent[1])) > 30):
        return None
    try:
        value = Fraction(text)
    except (ValueError, ZeroDivisionError):
        return None
    return value if abs(value) <= 10**12 and value.denominator <= 10**12 else None


@dataclass(frozen=True)
class Real:
    """A number; where it is exact, `0.1`, `1e-3` and `1/3` are fractions."""

    exact: bool = True

    @property
    def expects(self) -> str:
        return "a number from 0 to 1e12 such as 2, 0.5, 1e-3 or 1/3" if self.exact else "a number of at least 0"

    def accepts(self, node: Node) -> bool:
        return isinstance(node, Scalar) and type(node.value) in (int, float, str)

    def read(self, node: Node, report: Report) -> Any:
        value = self._value(node) if isinstance(node, Scalar) and self.accepts(node) else None
        return _wrong(self, node, report) if value is None or value < 0 else value

    def _value(self, node: Scalar) -> Fraction | float | None:
        if self.exact or isinstance(node.value, str):
            exact = fraction(str(node.value) if isinstance(node.value, int) else node.text)
            return exact if self.exact or exact is None else float(exact)
        assert isinstance(node.value, int | float)
        return float(node.value) if node.value < inf else None

    def schema(self) -> Schema:
        limits = {"minimum": 0, "maximum": 10**12} if self.exact else {"minimum": 0}
        return {"type": ["number", "string"], **limits, "pattern": NUMBER_PATTERN, "description": self.expects}


@dataclass(frozen=True)
class Text:
    """A text of one line: white space of any kind is one blank."""

    what: str = "a text"

    @property
    def expects(self) -> str:
        return self.what

    def accepts(self, node: Node) -> bool:
        return isinstance(node, Scalar) and isinstance(node.value, str)

    def read(self, node: Node, report: Report) -> Any:
        if isinstance(node, Scalar) and isinstance(node.value, str) and node.value.strip():
            text = " ".join(node.value.split())
            if not any(category(c) == "Cc" for c in text):
                return text
            report.error("AP105", f"expected {self.what}, found control characters", node.where, "remove them")
            return MISSING
        unquoted = isinstance(node, Scalar) and not node.quoted
        return _wrong(self, node, report, "put it into quotes" if unquoted else "")

    def schema(self) -> Schema:
        return described({"type": "string", "pattern": r"\S"}, "" if self.what == "a text" else self.what)


@dataclass(frozen=True)
class Choice:
    """One of a few words."""

    choices: tuple[str, ...]
    code: str = "AP105"
    what: str = ""

    @property
    def expects(self) -> str:
        return self.what or (f"one of {', '.join(self.choices)}" if len(self.choices) > 1 else self.choices[0])

    def accepts(self, node: Node) -> bool:
        return isinstance(node, Scalar) and isinstance(node.value, str)

    def read(self, node: Node, report: Report) -> Any:
        if isinstance(node, Scalar) and node.value in self.choices:
            return node.value
        hint = _hint(node.text, self.choices) if isinstance(node, Scalar) else ""
        report.error(
            self.code,
            f"expected {self.expects}, found {found(node)}",
            node.where,
            hint if "did" in hint else "",
        )
        return MISSING

    def schema(self) -> Schema:
        return described({"type": "string", "enum": list(self.choices)}, self.what)


@dataclass(frozen=True)
class Parsed:
    """A small language inside a scalar: an expression, a rule, a range of layers.

    `place` tells the value where it stands. For editors: a `pattern` that every text of the language matches, and texts
    to offer.
    """

    expects: str
    parse: Callable[[str], Any]
    code: str
    place: Callable[[Any, Position], Any] = lambda value, where: value
    pattern: str = ""
    examples: tuple[str, ...] = ()

    def accepts(self, node: Node) -> bool:
        return isinstance(node, Scalar) and type(node.value) in (int, str)

    def read(self, node: Node, report: Report) -> Any:
        if not isinstance(node, Scalar) or not self.accepts(node):
            return _wrong(self, node, report)
        # The language has no 0x1F and no +7, but YAML has.
        text = node.text if isinstance(node.value, str) or re.fullmatch("-?[0-9]+", node.text) else str(node.value)
        try:
            value = self.parse(text)
        except ExpressionError as error:
            report.error(self.code, error.message, node.at(error.offset, error.length))
            return MISSING
        return self.place(value, node.where)

    def schema(self) -> Schema:
        more = {"pattern": self.pattern, "examples": list(self.examples)}
        given = {key: value for key, value in more.items() if value}
        return {"type": ["string", "integer"], **given, "description": self.expects}


@dataclass(frozen=True)
class ListOf:
    item: Kind
    least: int = 0
    what: str = "a list"

    @property
    def expects(self) -> str:
        return self.what

    def accepts(self, node: Node) -> bool:
        return isinstance(node, SequenceNode)

    def read(self, node: Node, report: Report) -> Any:
        if not isinstance(node, SequenceNode) or len(node.items) < self.least:
            return _wrong(self, node, report)
        values = [self.item.read(item, report) for item in node.items]
        return MISSING if MISSING in values else tuple(values)

    def schema(self) -> Schema:
        schema = {"type": "array", "items": schema_of(self.item), "minItems": self.least}
        return described(schema, "" if self.what == "a list" else self.what)


@dataclass(frozen=True)
class OneOf:
    """The first kind that accepts the node's outer form reads it."""

    expects: str
    kinds: tuple[Kind, ...]

    def accepts(self, node: Node) -> bool:
        return any(kind.accepts(node) for kind in self.kinds)

    def read(self, node: Node, report: Report) -> Any:
        kind = next((kind for kind in self.kinds if kind.accepts(node)), None)
        return _wrong(self, node, report) if kind is None else kind.read(node, report)

    def schema(self) -> Schema:
        return {"anyOf": [schema_of(kind) for kind in self.kinds], "description": self.expects}


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
                message = f"expected a name of letters, digits, - and _, found {name.text!r}"
                report.error("AP105", message, name.where, "a name begins with a letter")
        values = [(name.text, self.item.read(value, report), name.where) for name, value in node.items]
        return MISSING if any(value is MISSING for _, value, _ in values) else tuple(values)

    def schema(self) -> Schema:
        items = {"patternProperties": {f"^(?:{self.pattern})$": schema_of(self.item)}, "additionalProperties": False}
        return {"type": "object", **items, "minProperties": 1, "description": self.what}


@dataclass(frozen=True)
class Key:
    """One key of an object: its kind, its default (MISSING: required), and a line of documentation."""

    name: str
    kind: Kind
    default: Any = MISSING
    about: str = ""

    def schema(self) -> Schema:
        schema = described(schema_of(self.kind), self.about)
        return schema if self.default is MISSING else {**schema, **default_of(self.default, schema)}


@dataclass(frozen=True)
class Object:
    """A mapping with known keys. `build` gets the values by name and `places`, where each key stands ("": of all)."""

    what: str
    keys: tuple[Key, ...]
    build: Callable[..., Any]

    @property
    def expects(self) -> str:
        required = [key.name for key in self.keys if key.default is MISSING]
        shown = ", ".join(required or [key.name for key in self.keys])
        more = ", ..." if 0 < len(required) < len(self.keys) else ""
        return f"{self.what} (a mapping of {shown}{more})"

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
            if key.default is MISSING and node.get(key.name) is None and not self._misspelt(key.name, node):
                message = f"the key {key.name!r} is missing in {self.what}"
                report.error("AP106", message, node.where, f"add `{key.name}:` with {key.kind.expects}")
        failed = len(report.diagnostics) > before or any(v is MISSING for v in values.values())
        places = {"": node.where, **{str(name.value): name.where for name, _ in node.items}}
        return MISSING if failed else self.build(places=places, **values)

    def schema(self) -> Schema:
        required = [key.name for key in self.keys if key.default is MISSING]
        properties = {key.name: key.schema() for key in self.keys}
        return {"type": "object", "properties": properties, "required": required, "additionalProperties": False}

    def _misspelt(self, key: str, node: Mapping) -> bool:
        """Whether an unknown key was surely meant to be this one: then one error is enough."""
        known = [key.name for key in self.keys]
        return any(name.text not in known and _hint(name.text, [key]).startswith("did") for name, _ in node.items)

    def _unknown(self, name: Scalar, known: tuple[str, ...], report: Report) -> None:
        report.error("AP104", f"unknown key {name.text!r} in {self.what}", name.where, _hint(name.text, known))

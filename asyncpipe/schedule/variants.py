"""Two more kinds of values: a truth value, and a mapping with exactly one of several keys."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from asyncpipe.errors import Position, Report, did_you_mean
from asyncpipe.schedule.json_schema import Schema
from asyncpipe.schedule.kinds import MISSING, Key, found
from asyncpipe.schedule.source import Mapping, Node, Scalar

__all__ = ["Boolean", "OneKey"]


@dataclass(frozen=True)
class Boolean:
    """`true` or `false`, as YAML 1.2 writes them; with `only`, that one alone."""

    only: bool | None = None

    @property
    def expects(self) -> str:
        return "true or false" if self.only is None else str(self.only).lower()

    def accepts(self, node: Node) -> bool:
        return isinstance(node, Scalar) and isinstance(node.value, bool)

    def read(self, node: Node, report: Report) -> Any:
        if isinstance(node, Scalar) and isinstance(node.value, bool) and self.only in (None, node.value):
            return node.value
        hint = "YAML 1.2 writes true and false" if isinstance(node, Scalar) and node.text in ("yes", "no") else ""
        report.error("AP105", f"expected {self.expects}, found {found(node)}", node.where, hint)
        return MISSING

    def schema(self) -> Schema:
        return {"type": "boolean"} if self.only is None else {"type": "boolean", "enum": [self.only]}


@dataclass(frozen=True)
class OneKey:
    """A mapping with exactly one of `keys`: `{shrink: 1/2}`. `build` gets the key's name, its value and its place.

    `refused` names keys that authors try, with what to do instead.
    """

    what: str
    keys: tuple[Key, ...]
    build: Callable[[str, Any, Position], Any]
    refused: tuple[tuple[str, str], ...] = ()

    @property
    def expects(self) -> str:
        return f"{self.what}: a mapping with one of {', '.join(key.name for key in self.keys)}"

    def accepts(self, node: Node) -> bool:
        return isinstance(node, Mapping)

    def read(self, node: Node, report: Report) -> Any:
        if not isinstance(node, Mapping) or len(node.items) != 1:
            some = f"a mapping with {len(node.items)} keys" if isinstance(node, Mapping) else found(node)
            report.error("AP105", f"expected {self.expects}; found {some}", node.where)
            return MISSING
        (name, value) = node.items[0]
        for word, instead in self.refused:
            if name.value == word:
                report.error("AP601", f"{word} cannot be part of a schedule: {instead}", name.where)
                return MISSING
        kind = next((key.kind for key in self.keys if key.name == name.value), None)
        if kind is None:
            hint = did_you_mean(name.text, [key.name for key in self.keys])
            report.error("AP104", f"unknown key {name.text!r} in {self.what}", name.where, hint)
            return MISSING
        read = kind.read(value, report)
        return MISSING if read is MISSING else self.build(str(name.value), read, name.where)

    def schema(self) -> Schema:
        properties = {key.name: key.schema() for key in self.keys}
        one = {"minProperties": 1, "maxProperties": 1, "additionalProperties": False}
        return {"type": "object", "properties": properties, **one, "description": self.what}

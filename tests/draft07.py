"""A validator of JSON Schema draft-07, as much of it as the schemas of asyncpipe use; any other keyword is an error."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from typing import Any

from asyncpipe.errors import Position
from asyncpipe.schedule.source import Mapping, Node, Report, Scalar, Sequence, parse_text

__all__ = ["findings", "plain_document", "tree"]

Schema = dict[str, Any]
_ANNOTATIONS = {"$schema", "title", "description", "default", "examples"}
_STRUCTURE = {"properties", "patternProperties", "additionalProperties", "items", "if", "then", "else"}
_TYPES: dict[str, Callable[[Any], bool]] = {
    "object": lambda value: isinstance(value, dict),
    "array": lambda value: isinstance(value, list),
    "string": lambda value: isinstance(value, str),
    "integer": lambda value: type(value) in (int, float) and value == int(value),
    "number": lambda value: type(value) in (int, float),
    "boolean": lambda value: isinstance(value, bool),
    "null": lambda value: value is None,
}


def plain_document(text: str) -> Any:
    """The values of a YAML text as an editor sees them."""
    report = Report()
    node = parse_text(text, "test.yaml", report)
    assert node is not None, report.diagnostics
    return _plain(node)


def _plain(node: Node) -> Any:
    if isinstance(node, Scalar):
        return node.value
    if isinstance(node, Mapping):
        return {key.text: _plain(value) for key, value in node.items}
    return [_plain(item) for item in node.items]


def tree(value: Any) -> Node:
    """The nodes of plain values, as their JSON text would give, but all at one place."""
    where = Position("document", 1, 1)
    if isinstance(value, dict):
        keys = [(Scalar(key, key, where, quoted=True), tree(item)) for key, item in value.items()]
        return Mapping(tuple(keys), where)
    if isinstance(value, list):
        return Sequence(tuple(map(tree, value)), where)
    is_text = isinstance(value, str)
    return Scalar(value, value if is_text else json.dumps(value), where, quoted=is_text)


def findings(schema: Schema, value: Any, path: str = "") -> list[str]:
    """`path: keyword` for each keyword that does not hold; empty for a valid value."""
    assert schema.keys() <= _ANNOTATIONS | _STRUCTURE | _HOLDS.keys(), schema.keys()
    found = [
        f"{path}: {keyword}"
        for keyword, wanted in schema.items()
        if keyword in _HOLDS and not _HOLDS[keyword](wanted, value)
    ]
    if "if" in schema:
        found += findings(schema["else" if findings(schema["if"], value) else "then"], value, path)
    return [*found, *_properties(schema, value, path), *_items(schema, value, path)]


def _holds_type(wanted: str | list[str], value: Any) -> bool:
    return any(_TYPES[name](value) for name in ([wanted] if isinstance(wanted, str) else wanted))


def _is_number(value: Any) -> bool:
    return _TYPES["number"](value)


_HOLDS: dict[str, Callable[[Any, Any], bool]] = {
    "type": _holds_type,
    "enum": lambda wanted, value: any(value == item and type(value) is type(item) for item in wanted),
    "minimum": lambda wanted, value: not _is_number(value) or value >= wanted,
    "maximum": lambda wanted, value: not _is_number(value) or value <= wanted,
    "pattern": lambda wanted, value: not isinstance(value, str) or re.search(wanted, value) is not None,
    "minItems": lambda wanted, value: not isinstance(value, list) or len(value) >= wanted,
    "minProperties": lambda wanted, value: not isinstance(value, dict) or len(value) >= wanted,
    "maxProperties": lambda wanted, value: not isinstance(value, dict) or len(value) <= wanted,
    "required": lambda wanted, value: not isinstance(value, dict) or set(wanted) <= set(value),
    "anyOf": lambda wanted, value: any(not findings(choice, value) for choice in wanted),
}


def _properties(schema: Schema, value: Any, path: str) -> Iterator[str]:
    if not isinstance(value, dict):
        return
    for key, item in value.items():
        found = [schema["properties"][key]] if key in schema.get("properties", {}) else []
        found += [s for pattern, s in schema.get("patternProperties", {}).items() if re.search(pattern, key)]
        if not found and not schema.get("additionalProperties", True):
            yield f"{path}/{key}: additionalProperties"
        for below in found:
            yield from findings(below, item, f"{path}/{key}")


def _items(schema: Schema, value: Any, path: str) -> Iterator[str]:
    for number, item in enumerate(value if "items" in schema and isinstance(value, list) else []):
        yield from findings(schema["items"], item, f"{path}/{number}")

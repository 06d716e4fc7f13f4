"""JSON Schema, within draft-07, of the kinds that validate: what editors complete, describe and flag.

Each kind gives its own schema; nothing here repeats the format. A schema never flags what a kind accepts; it lets
pass what only the kind can tell, such as a misspelt rule whose form is right.
"""

from __future__ import annotations

from fractions import Fraction
from typing import Any, Protocol, runtime_checkable

from asyncpipe.schedule.expression import Binary, Name, Number, Unary

__all__ = [
    "BODY_ENTRY_PATTERN",
    "DRAFT",
    "LAYERS_PATTERN",
    "NUMBER_PATTERN",
    "RULE_PATTERN",
    "HasSchema",
    "Schema",
    "default_of",
    "described",
    "document",
    "expression_pattern",
    "partial",
    "schema_of",
    "span_pattern",
]

DRAFT = "http://json-schema.org/draft-07/schema#"
Schema = dict[str, Any]


@runtime_checkable
class HasSchema(Protocol):
    def schema(self) -> Schema: ...


class _Described(Protocol):
    @property
    def expects(self) -> str: ...


def schema_of(kind: _Described) -> Schema:
    """The schema that a kind gives; of a kind that gives none only the description, so that nothing is flagged."""
    return kind.schema() if isinstance(kind, HasSchema) else {"description": kind.expects}


def described(schema: Schema, about: str) -> Schema:
    """The schema with what it is for, before what it expects."""
    expects = schema.get("description", "")
    text = f"{about} ({expects})" if about and about not in expects else expects
    text = text if expects else about
    return {**schema, "description": text} if text else schema


def document(schema: Schema, title: str) -> Schema:
    """A schema as a document of its own."""
    return {"$schema": DRAFT, "title": title, **schema}


def partial(schema: Schema) -> Schema:
    """As the schema, for a file that changes another one: no key is required, null removes one; lists are whole."""
    result = {key: value for key, value in schema.items() if key not in ("required", "minProperties")}
    for key in ("properties", "patternProperties"):
        if key in result:
            result[key] = {name: _or_null(partial(value)) for name, value in result[key].items()}
    if "anyOf" in result:
        result["anyOf"] = [partial(choice) for choice in result["anyOf"]]
    return result


def _or_null(schema: Schema) -> Schema:
    if "anyOf" in schema:
        return {**schema, "anyOf": [*schema["anyOf"], {"type": "null"}]}
    if "type" not in schema:
        return schema
    types = [schema["type"]] if isinstance(schema["type"], str) else schema["type"]
    enum = {"enum": [*schema["enum"], None]} if "enum" in schema else {}
    return {**schema, "type": [*types, "null"], **enum}


def default_of(value: object, schema: Schema) -> Schema:
    """{"default": value} where the value can be written in a file, else nothing."""
    plain = _plain(value)
    if isinstance(plain, list) and (schema.get("type") != "array" or len(plain) < schema.get("minItems", 0)):
        return {}
    return {} if plain is None else {"default": plain}


def _plain(value: object) -> Any:
    """As JSON, None for what has no form there: the defaults of a mapping stand beside its keys."""
    if isinstance(value, str):
        return str(value) or None
    if isinstance(value, Fraction):
        return value.numerator if value.denominator == 1 else str(value)
    if isinstance(value, Number | Name | Unary | Binary):
        text = str(value)
        return int(text) if text.isdecimal() else text
    if isinstance(value, tuple):
        items = [_plain(item) for item in value]
        return None if None in items else items
    return value if isinstance(value, bool | int | float) else None


def _expression(names: tuple[str, ...]) -> str:
    return rf"(?:\s*(?:[-+*%()0-9]|//|\b(?:{'|'.join(names)})\b))+\s*"


def expression_pattern(*names: str) -> str:
    """What every arithmetic expression in these names matches, and no text with another name or sign."""
    return f"^{_expression(names)}$"


def span_pattern(*names: str) -> str:
    """As `expression_pattern`, for one expression or `first..last`."""
    return rf"^{_expression(names)}(?:\.\.{_expression(names)})?$"


_OP = "[A-Z][A-Z_]*"
_INDICES = r"\s*\[[^\[\],]*,[^\[\],]*\]\s*"
RULE_PATTERN = rf"^\s*{_OP}(?: +{_OP})*{_INDICES}after\b\s*{_OP}{_INDICES}(?:when\b[\s\S]*)?$"
"""The form of every rule; its names and indices are not looked into."""
BODY_ENTRY_PATTERN = rf"^\s*{_OP}{_INDICES}$"
NUMBER_PATTERN = r"^\s*[-+]?[0-9._]+(?:[eE][-+]?[0-9_]+|/[0-9_]+)?\s*$"
LAYERS_PATTERN = r"^\s*[0-9]{1,6}\s*(?:-\s*[0-9]{1,6}\s*)?$"

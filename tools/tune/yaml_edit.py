"""A key of a YAML text set in place: comments, order and spaces of everything else stay as they are, to the byte."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from asyncpipe.errors import InternalError

__all__ = ["has_key", "with_key", "without_key"]

_ORDER = (
    *("asyncpipe", "extends", "name", "description", "paper", "job", "stages", "devices", "place", "streams"),
    *("in_flight", "rules", "update", "weights", "gradient", "aux", "recompute", "replicas", "costs", "expect"),
)
"""Of the format: a new key goes behind the last one that comes before it."""


def with_key(text: str, path: Sequence[str], value: str) -> str:
    """The text with the dotted key `path` set to a value in flow style; mappings that are missing are made."""
    node = _root(text)
    for depth, name in enumerate(path):
        found = _get(node, name)
        if found is None:
            return _inserted(text, node, name, _nested(path[depth + 1 :], value), is_root=depth == 0)
        node = found[1]
        if depth == len(path) - 1:
            return _replaced(text, *found, value)
        if not isinstance(node, MappingNode):
            return _replaced(text, *found, _nested(path[depth + 1 :], value))
    raise InternalError("a key needs a name")


def has_key(text: str, path: Sequence[str]) -> bool:
    """Whether the text itself has the key, rather than what it extends."""
    node: Node = _root(text)
    for name in path:
        found = _get(node, name) if isinstance(node, MappingNode) else None
        if found is None:
            return False
        node = found[1]
    return True


def without_key(text: str, name: str) -> str:
    """The text without a key of its root, and without the lines that it stood on."""
    root = _root(text)
    found = _get(root, name)
    if found is None or root.flow_style:
        return text
    begin = text.rfind("\n", 0, found[0].start_mark.index) + 1
    return text[:begin] + text[_line_end(text, _end(found[1])) + 1 :]


def _root(text: str) -> Any:
    root = YAML(pure=True).compose(text)
    if not isinstance(root, MappingNode):
        raise InternalError("expected a mapping, as every schedule is one")
    return root


def _get(node: Any, name: str) -> tuple[Any, Any] | None:
    return next(((key, value) for key, value in node.value if key.value == name), None)


def _nested(path: Sequence[str], value: str) -> str:
    return f"{{{path[0]}: {_nested(path[1:], value)}}}" if path else value


def _replaced(text: str, key: Any, old: Any, value: str) -> str:
    """A value on lines of its own goes with them; what stands behind the key stays."""
    begin, end = old.start_mark.index, _end(old)
    if isinstance(old, MappingNode | SequenceNode) and not old.flow_style:
        begin = text.index(":", key.end_mark.index) + 1
        behind = text[begin : text.index("\n", begin)]
        return f"{text[:begin]} {value}{behind}{text[_line_end(text, end) :]}"
    return text[:begin] + value + text[end:]


def _line_end(text: str, begin: int) -> int:
    found = text.find("\n", begin)
    return found if found >= 0 else len(text)


def _end(node: Any) -> int:
    """Where a node's text ends; a block collection's own mark lies behind the comments that follow it."""
    if isinstance(node, ScalarNode) or node.flow_style or not node.value:
        return int(node.end_mark.index)
    last = node.value[-1]
    return _end(last[1] if isinstance(last, tuple) else last)


def _inserted(text: str, node: Any, name: str, value: str, *, is_root: bool) -> str:
    """A new key of a mapping: at its end, at the root in the format's order."""
    if node.flow_style:
        at = _end(node.value[-1][1]) if node.value else node.end_mark.index - 1
        return f"{text[:at]}{', ' if node.value else ''}{name}: {value}{text[at:]}"
    before = [pair for pair in node.value if is_root and _rank(pair[0].value) <= _rank(name)] or node.value
    at = _line_end(text, _end(before[-1][1]))
    return f"{text[:at]}\n{' ' * node.value[0][0].start_mark.column}{name}: {value}{text[at:]}"


def _rank(name: str) -> int:
    return _ORDER.index(name) if name in _ORDER else len(_ORDER)

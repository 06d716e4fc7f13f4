"""`extends: FILE`: a schedule as the changes to another one."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

from asyncpipe.errors import Report, did_you_mean
from asyncpipe.schedule.source import Mapping, Node, Scalar, parse_text, read_file

__all__ = ["resolve_extends"]

_OWN = ("name", "description", "expect", "job")
"""What speaks of one file alone is not inherited."""
_MOST = 16


def resolve_extends(node: Node, file: str, library: dict[str, Path], report: Report) -> Node | None:
    """The tree with everything that the files it extends state; None with the findings in the report.

    Mappings are merged key by key, anything else replaces what the base has; `null` removes it.
    """
    seen = [os.path.abspath(file)]
    layers = [node]
    while (name := _extended(layers[-1])) is not None:
        path = _path(name, library)
        if not path.exists() and "/" not in name.text and not path.suffix:
            hint = did_you_mean(name.text, list(library))
            report.error("AP100", f"no schedule named {name.text!r} in the library, and no such file", name.where, hint)
            return None
        if os.path.abspath(path) in seen or len(seen) > _MOST:
            message = f"{name.text} is extended by itself" if os.path.abspath(path) in seen else "extended too often"
            report.error("AP109", message, name.where, "let it extend another file, or none")
            return None
        seen.append(os.path.abspath(path))
        text = read_file(path, report, name.where)
        base = None if text is None else parse_text(text, str(path), report)
        if base is None:
            return None
        layers.append(base)
    merged = layers.pop()
    while layers:
        merged = _merged(_inherited(merged), layers.pop())
    return merged


def _extended(node: Node) -> Scalar | None:
    """The value of `extends`; anything but a text is told when the whole is read."""
    value = node.get("extends") if isinstance(node, Mapping) else None
    return value if isinstance(value, Scalar) and isinstance(value.value, str) and value.value else None


def _path(name: Scalar, library: dict[str, Path]) -> Path:
    """A library name, or a file relative to the one that names it."""
    if name.text in library:
        return library[name.text]
    return Path(os.path.normpath(Path(name.where.file).parent / name.text))


def _inherited(node: Node) -> Node:
    if not isinstance(node, Mapping):
        return node
    return replace(node, items=tuple((k, v) for k, v in node.items if k.value not in (*_OWN, "extends")))


def _merged(base: Node, change: Node) -> Node:
    if not isinstance(base, Mapping) or not isinstance(change, Mapping):
        return change
    changes = {name.text: (name, value) for name, value in change.items}
    items = []
    for name, value in base.items:
        if name.text not in changes:
            items.append((name, value))
            continue
        new_name, new = changes.pop(name.text)
        if not (isinstance(new, Scalar) and new.value is None):
            items.append((new_name, _merged(value, new)))
    items += changes.values()
    return replace(change, items=tuple(items))

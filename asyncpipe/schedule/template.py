"""A new schedule from the text of another: its comments and its layout stay, only single values are replaced."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from asyncpipe.schedule.source import scalar_value

__all__ = ["EDITOR_LINE", "begin_from"]

EDITOR_LINE = "# yaml-language-server: $schema="
"""Editors with the YAML language server read it; a relative path is relative to the file."""
_OWN_TEXTS = ("name", "description", "paper")
_PLAIN = re.compile(r"[A-Za-z0-9_.](?:[A-Za-z0-9_./+ -]*[A-Za-z0-9_./+-])?")


class _Scalar(NamedTuple):
    """A scalar, the keys above it, and which characters of the text it is."""

    path: tuple[str, ...]
    value: str
    start: int
    end: int


class _Edit(NamedTuple):
    start: int
    end: int
    text: str


def begin_from(
    text: str, name: str, description: str, comments: tuple[str, ...], moved: Callable[[str], str | None]
) -> str:
    """The text of a valid schedule under another name, with `comments` as its first lines.

    `moved` gets each value that may name a file and gives what to write instead, or None to leave it.
    """
    line_end = "\r\n" if "\r\n" in text else "\n"
    root, scalars = _read(text)
    edits = [*_named(text, root, scalars, {"name": name, "description": description}, line_end)]
    for scalar in scalars:
        instead = None if scalar.path[0] in _OWN_TEXTS else moved(scalar.value)
        if instead is not None:
            edits.append(_replaced(text, scalar, instead))
    for edit in sorted(edits, reverse=True):
        text = text[: edit.start] + edit.text + text[edit.end :]
    kept = re.sub(r"^#\s*yaml-language-server:.*(\r?\n|$)", "", text, flags=re.MULTILINE)
    return "".join(f"{comment}{line_end}" for comment in comments) + kept


def _named(text: str, root: Any, scalars: list[_Scalar], values: dict[str, str], line_end: str) -> Iterator[_Edit]:
    """Each value in its place; a key that the text does not have follows the first ones."""
    known = {scalar.path[0]: scalar for scalar in scalars if len(scalar.path) == 1}
    yield from (_replaced(text, known[key], value) for key, value in values.items() if key in known)
    missing = [f"{key}: {_written(value)}" for key, value in values.items() if key not in known]
    end = next(known[key].end for key in ("name", "asyncpipe", "extends") if key in known)
    if root.flow_style:
        yield _Edit(end, end, "".join(f", {line}" for line in missing))
        return
    at = text.find("\n", end) + 1 or len(text)
    before = "" if text[:at].endswith("\n") else line_end
    indent = " " * root.start_mark.column
    yield _Edit(at, at, "".join(f"{before}{indent}{line}{'' if before else line_end}" for line in missing))


def _replaced(text: str, scalar: _Scalar, value: str) -> _Edit:
    """A scalar of several lines ends with its last line break, which stays."""
    written = text[scalar.start : scalar.end]
    tail = written[len(written.rstrip()) :]
    return _Edit(scalar.start, scalar.end, _written(value) + tail)


def _written(value: str) -> str:
    """Plain where that reads back as this text, else in double quotes."""
    plain = _PLAIN.fullmatch(value) and isinstance(scalar_value(value), str)
    return value if plain else json.dumps(value, ensure_ascii=False)


def _read(text: str) -> tuple[Any, list[_Scalar]]:
    """The event that begins the mapping of a document, and the scalars in it that are no keys, in their order."""
    from ruamel.yaml import YAML

    events = iter(YAML(typ="safe", pure=True).parse(text))
    root = next(event for event in events if type(event).__name__ == "MappingStartEvent")
    return root, list(_below(root, events, ()))


def _below(event: Any, events: Iterator[Any], path: tuple[str, ...]) -> Iterator[_Scalar]:
    kind = type(event).__name__
    if kind == "ScalarEvent":
        yield _Scalar(path, event.value, event.start_mark.index, event.end_mark.index)
    elif kind == "SequenceStartEvent":
        while type(event := next(events)).__name__ != "SequenceEndEvent":
            yield from _below(event, events, (*path, "-"))
    else:
        while type(key := next(events)).__name__ != "MappingEndEvent":
            yield from _below(next(events), events, (*path, key.value))

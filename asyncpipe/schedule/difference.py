"""What differs between two schedules as written (L0): by canonical form, so never by formatting or by a default."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from asyncpipe.errors import InternalError
from asyncpipe.schedule.source import Mapping, Node, Report, Scalar, parse_text
from asyncpipe.schedule.source import Sequence as SequenceNode
from asyncpipe.schedule.spec import Schedule

__all__ = ["KeyChange", "changed_keys"]

_SETS = ("rules",)
"""Lists whose order means nothing: each item counts for itself."""


class KeyChange(NamedTuple):
    """A dotted key with its canonical text on both sides; None where one side does not have it."""

    key: str
    before: str | None
    after: str | None


def changed_keys(before: Schedule, after: Schedule) -> tuple[KeyChange, ...]:
    """Every key that differs, in the order of the format; a name is no content."""
    changes = _changes(_tree(before), _tree(after), "")
    return tuple(change for change in changes if change.key != "name")


def _tree(schedule: Schedule) -> Mapping:
    """The canonical text as nodes: whatever the format has is compared."""
    node = parse_text(str(schedule), schedule.file, Report())
    if not isinstance(node, Mapping):
        raise InternalError(f"the canonical text of {schedule.name} does not parse")
    return node


def _changes(before: Mapping, after: Mapping, prefix: str) -> Iterator[KeyChange]:
    olds, news = ({name.text: value for name, value in side.items} for side in (before, after))
    for key in _union([*olds], [*news]):
        old, new = olds.get(key), news.get(key)
        if isinstance(old, Mapping) and isinstance(new, Mapping):
            yield from _changes(old, new, f"{prefix}{key}.")
        elif prefix + key in _SETS and isinstance(old, SequenceNode) and isinstance(new, SequenceNode):
            yield from _items(key, list(map(_text, old.items)), list(map(_text, new.items)))
        elif old is None or new is None or _text(old) != _text(new):
            yield KeyChange(prefix + key, None if old is None else _text(old), None if new is None else _text(new))


def _union(before: Sequence[str], after: Sequence[str]) -> list[str]:
    """The keys of both, each in the order of its side."""
    result: list[str] = []
    rest = list(after)
    for key in before:
        cut = rest.index(key) + 1 if key in rest else 0
        result += [*rest[:cut], key]
        del rest[:cut]
    return list(dict.fromkeys([*result, *rest]))


def _items(key: str, before: list[str], after: list[str]) -> Iterator[KeyChange]:
    yield from (KeyChange(key, item, None) for item in (Counter(before) - Counter(after)).elements())
    yield from (KeyChange(key, None, item) for item in (Counter(after) - Counter(before)).elements())


def _text(node: Node) -> str:
    if isinstance(node, Scalar):
        return node.text
    if isinstance(node, SequenceNode):
        return f"[{', '.join(map(_text, node.items))}]"
    return "{" + ", ".join(f"{key.text}: {_text(value)}" for key, value in node.items) + "}"

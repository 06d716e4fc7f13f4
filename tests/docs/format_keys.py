"""The keys of the schedule format, as its own tables have them: place, name, default, and what a type must mention."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from asyncpipe.schedule.format import SCHEDULE
from asyncpipe.schedule.kinds import MISSING, Choice, Integer, Key, ListOf, Object, OneOf
from asyncpipe.schedule.variants import Boolean, OneKey

__all__ = ["FormatKey", "format_keys"]

_UNLISTED = ("expect.costs", "phases.update", "phases.replicas")
"""Their keys are those of `costs`, `update` and `replicas`."""


@dataclass(frozen=True)
class FormatKey:
    """`words` stand in the description of the type: the choices, or the bounds of a number."""

    place: str
    name: str
    default: str
    words: frozenset[str]


def format_keys() -> Iterator[FormatKey]:
    """Yield every key of a schedule file, each place after the one that names it."""
    places: list[tuple[str, Any]] = [("top", SCHEDULE)]
    while places:
        place, kind = places.pop(0)
        for key in _keys(kind):
            yield FormatKey(place, key.name, _default(key.default), frozenset(_words(key.kind)))
        inner = [(f"{place}.{key.name}".removeprefix("top."), key.kind) for key in _keys(kind)]
        places = [(name, kind) for name, kind in inner if name not in _UNLISTED] + places


def _keys(kind: Any) -> list[Key]:
    """The keys of what stands there: of a mapping, of its items, or of any of its forms."""
    if isinstance(kind, Object | OneKey):
        return list(kind.keys)
    if isinstance(kind, OneOf):
        return [key for choice in kind.kinds for key in _keys(choice)]
    inner = getattr(kind, "groups", None) or getattr(kind, "item", None)
    return [] if inner is None else _keys(inner)


def _words(kind: Any) -> Iterator[str]:
    if isinstance(kind, Choice):
        yield from kind.choices
    elif isinstance(kind, Integer):
        yield str(kind.low) if kind.low == kind.high else f"{kind.low}..{kind.high}"
    elif isinstance(kind, Boolean):
        yield from ["true"] if kind.only else ["true", "false"]
    elif isinstance(kind, OneOf):
        for choice in kind.kinds:
            yield from () if isinstance(choice, ListOf) else _words(choice)
    elif isinstance(kind, ListOf) and isinstance(kind.item, Choice):
        yield from kind.item.choices


def _default(value: Any) -> str:
    """As a file writes it; `-` where leaving the key out is not the same as any value of it."""
    if value is MISSING:
        return "required"
    if isinstance(value, tuple) and len(value) == 2 and not isinstance(value[0], str):
        return f"{value[0]}..{value[1]}"
    if isinstance(value, tuple) and value:
        return f"[{', '.join(value)}]"
    if isinstance(value, bool):
        return str(value).lower()
    plain = isinstance(value, int | str | Fraction) or type(value).__module__.endswith(".expression")
    return str(value) if plain and value != "" else "-"

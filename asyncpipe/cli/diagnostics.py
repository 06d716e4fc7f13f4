"""Diagnostics as text (place, cause, the line with a caret, help) and as JSON."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any
from unicodedata import combining, east_asian_width

from asyncpipe.errors import Diagnostic, Position
from asyncpipe.schedule.source import MAX_BYTES

__all__ = ["as_json", "in_order", "render"]

_WIDTH = 110


def render(diagnostics: Iterable[Diagnostic]) -> str:
    """Every finding, in the order of the file, each with its line."""
    ordered = in_order(diagnostics)
    sources = {d.where.file: _source(d.where.file) for d in ordered if d.where}
    return "".join(f"{line}\n" for diagnostic in ordered for line in _lines(diagnostic, sources))


def in_order(diagnostics: Iterable[Diagnostic]) -> list[Diagnostic]:
    """By file, line and column; those without a place last."""
    return sorted(diagnostics, key=lambda d: (d.where is None, d.where or Position("", 0, 0), d.code))


def _lines(diagnostic: Diagnostic, sources: Mapping[str, list[str]]) -> Iterator[str]:
    place = f"{diagnostic.where}: " if diagnostic.where else ""
    yield f"{place}{diagnostic.severity}[{diagnostic.code}]: {diagnostic.message}"
    if diagnostic.where:
        yield from _excerpt(diagnostic.where, sources[diagnostic.where.file])
    for text, where in diagnostic.notes:
        yield f"  = {where.file}:{where.line}: {text}" if where else f"  = {text}"
    if diagnostic.hint:
        yield f"  = help: {diagnostic.hint}"


def _excerpt(where: Position, source: list[str]) -> Iterator[str]:
    if not 0 < where.line <= len(source):
        return
    line = source[where.line - 1]
    cut = max(0, where.column - _WIDTH + 20)
    shown = "".join(c if c.isprintable() else " " for c in line[cut : cut + _WIDTH])
    if not shown.strip():
        return
    first = where.column - 1 - cut
    marked = shown[first : first + where.length]
    yield f"{where.line:>5} | {shown}".rstrip()
    yield f"{'':>5} | {' ' * _columns(shown[:first])}{'^' * max(1, _columns(marked))}"


def _columns(text: str) -> int:
    """How wide a terminal shows it: East Asian characters take two columns, combining marks none."""
    return sum(0 if combining(c) else 2 if east_asian_width(c) in "WF" else 1 for c in text)


def _source(file: str) -> list[str]:
    """The lines of a file as YAML counts them; none where it cannot be shown."""
    try:
        path = Path(file)
        if not path.is_file() or path.stat().st_size > MAX_BYTES:
            return []
        return re.split(r"\r\n?|\n", path.read_bytes().decode("utf-8-sig"))
    except (OSError, ValueError):
        return []


def as_json(diagnostic: Diagnostic) -> dict[str, Any]:
    """The keys of the contract: code, severity, file, line, column, message, hint; and notes."""
    where = diagnostic.where
    return {
        "code": diagnostic.code,
        "severity": diagnostic.severity,
        "file": where.file if where else None,
        "line": where.line if where else None,
        "column": where.column if where else None,
        "message": diagnostic.message,
        "hint": diagnostic.hint,
        "notes": [text for text, _ in diagnostic.notes],
    }

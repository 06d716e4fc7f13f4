"""Diagnostics as text (place, cause, the line with a caret, help) and as JSON."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

from asyncpipe.errors import Diagnostic, Position
from asyncpipe.schedule.source import MAX_BYTES

__all__ = ["as_json", "render"]

_WIDTH = 110


def render(diagnostics: Iterable[Diagnostic]) -> str:
    """Every finding, in the order of the file, each with its line."""
    ordered = sorted(diagnostics, key=lambda d: (d.where is None, d.where or Position("", 0, 0), d.code))
    return "".join(f"{line}\n" for diagnostic in ordered for line in _lines(diagnostic))


def _lines(diagnostic: Diagnostic) -> Iterator[str]:
    place = f"{diagnostic.where}: " if diagnostic.where else ""
    yield f"{place}{diagnostic.severity}[{diagnostic.code}]: {diagnostic.message}"
    if diagnostic.where:
        yield from _excerpt(diagnostic.where)
    for text, where in diagnostic.notes:
        yield f"  = {where.file}:{where.line}: {text}" if where else f"  = {text}"
    if diagnostic.hint:
        yield f"  = help: {diagnostic.hint}"


def _excerpt(where: Position) -> Iterator[str]:
    source = _source(where.file)
    if not 0 < where.line <= len(source):
        return
    line = source[where.line - 1]
    cut = max(0, where.column - _WIDTH + 20)
    shown = line[cut : cut + _WIDTH].replace("\t", " ")
    if not shown.strip():
        return
    length = max(1, min(where.length, len(line) - where.column + 1, _WIDTH))
    yield f"{where.line:>5} | {shown}"
    yield f"{'':>5} | {' ' * (where.column - 1 - cut)}{'^' * length}"


@cache
def _source(file: str) -> list[str]:
    try:
        path = Path(file)
        if not path.is_file() or path.stat().st_size > MAX_BYTES:
            return []
        return path.read_text("utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError):
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

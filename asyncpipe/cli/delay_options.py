"""`--delay` and `--straggler` of `asyncpipe run`."""

from __future__ import annotations

from collections.abc import Sequence

from asyncpipe.analysis.selector import parse_selector
from asyncpipe.errors import UsageError
from asyncpipe.ir import Program

__all__ = ["check_streams", "named_values"]


def named_values(option: str, texts: Sequence[str], example: str) -> tuple[tuple[str, str], ...]:
    """(stream, value) of each text; UsageError for one without `=`, or with no name of a stream."""
    return tuple(_named_value(option, text, f"as in {option} '{example}'") for text in texts)


def _named_value(option: str, text: str, hint: str) -> tuple[str, str]:
    name, equals, value = text.rpartition("=")
    if not equals or not name.strip():
        raise UsageError(f"{option} {text!r}: expected a stream, =, and a value", hint)
    try:
        parse_selector(name.strip())
    except ValueError as error:
        raise UsageError(f"{option} {text!r}: {error}", hint) from None
    return name.strip(), value.strip()


def check_streams(names: Sequence[tuple[str, str]], program: Program) -> None:
    """UsageError where the program has no such stream."""
    for name, _ in names:
        parse_selector(name).choose(program)

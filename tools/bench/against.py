"""Against an earlier run of the suite: for each row faster, slower or the same, as far as its rounds can tell."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from asyncpipe.errors import UsageError
from asyncpipe.tools.bench.numbers import ratio_of_ratios
from asyncpipe.tools.bench.suite import SCHEMA

__all__ = ["MARGIN", "compare", "compare_row", "read_earlier"]

MARGIN = 0.03
"""Smaller differences count as none: two runs differ by more than the rounds of one do."""
Row = Mapping[str, Any]


def read_earlier(file: str | Path) -> dict[str, Any]:
    """An earlier document; UsageError where the file is none."""
    try:
        found = json.loads(Path(file).read_text())
    except OSError as error:
        raise UsageError(
            f"--against {file}: {error.strerror or error}", "name a file that --out has written"
        ) from error
    except ValueError as error:
        raise UsageError(f"--against {file}: not JSON: {error}", "name a file that --out has written") from error
    schema = found.get("schema") if isinstance(found, dict) else None
    if schema != SCHEMA:
        raise UsageError(f"--against {file}: expected the schema {SCHEMA}, found {schema!r}", "measure it again")
    return dict(found)


def compare(new: Sequence[Row], old: Mapping[str, Any]) -> list[dict[str, Any]]:
    """One entry for each row that trains and was measured both times."""
    earlier = {row["name"]: row for row in old["rows"]}
    pairs = [(row, earlier.get(row["name"])) for row in new]
    return [found for row, before in pairs if before is not None and (found := compare_row(row, before)) is not None]


def compare_row(new: Row, old: Row) -> dict[str, Any] | None:
    """By what our best of the earlier run reached of the best peer of each run: so a slower machine slows both.

    `ratio` above 1 is faster, with the interval that the rounds of both leave.
    """
    claim = old.get("of_best_peer")
    if not claim or not new.get("of_best_peer"):
        return None
    name = claim["name"]
    if not all(_seconds(row, name) for row in (new, old)):
        return None
    found = ratio_of_ratios(_pair(new, name), _pair(old, name))
    low, high = 1 + MARGIN, 1 - MARGIN
    verdict = "faster" if found.low > low else "slower" if found.high < high else "same"
    return {
        "row": new["name"],
        "contender": name,
        "verdict": verdict,
        **found.as_json(),
        "before": _reached(old, name),
        "now": _reached(new, name),
    }


def _pair(row: Row, name: str) -> tuple[Sequence[float], Sequence[float]]:
    """Seconds of the best peer and of ours, over the rounds that both have."""
    peer, ours = _seconds(row, row["best_peer"]), _seconds(row, name)
    count = min(len(peer), len(ours))
    return peer[:count], ours[:count]


def _seconds(row: Row, name: str) -> Sequence[float]:
    return next((list(c["seconds"]) for c in row["contenders"] if c["name"] == name), [])


def _reached(row: Row, name: str) -> float:
    return float(next(c["of_best_peer"]["ratio"] for c in row["contenders"] if c["name"] == name))

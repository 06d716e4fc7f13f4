"""Tables in Markdown, one for each kind of result."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from bench import Result

__all__ = ["table"]


def table(result: Result) -> str:
    """Chosen by what the result holds."""
    return next(make(result) for key, make in TABLES.items() if key in result)


def _spread(values: Mapping[str, float], digits: int) -> str:
    return f"{values['median']:.{digits}f} ({values['low']:.{digits}f}-{values['high']:.{digits}f})"


def _contenders(result: Result) -> str:
    base = next(iter(result["contenders"]))
    lines = [f"| | us | GB/s | of copy | of equal copy | times of {base} |", "|---|---|---|---|---|---|"]
    for name, row in result["contenders"].items():
        digits = {"microseconds": 1, "gb_per_s": 0, "of_copy": 3, "of_equal_copy": 3}
        cells = [_spread(row[key], places) for key, places in digits.items()]
        cells.append(_spread(row["times_of"][base], 2))
        if "expected" in row:
            cells[-1] += f", bytes {row['expected']:.2f}"
        lines.append(f"| {name} | {' | '.join(cells)} |")
    lines += [f"not captured: {name}: {reason}" for name, reason in result.get("refused", {}).items()]
    lines += [f"{name}: {_spread(rate, 0)} GB/s" for name, rate in result["copy_gb_per_s"].items()]
    if "fastest" in result:
        slower = 100 * (result["derived_of_fastest"] - 1)
        lines.append(f"derived: {result['derived']}; fastest: {result['fastest']}, by {slower:.1f} %")
    return "\n".join(lines)


def _writers(result: Result) -> str:
    lines = ["| writers | made | lost | share | us per update |", "|---|---|---|---|---|"]
    for grid, modes in result["grids"].items():
        for mode, row in modes.items():
            cells = (f"{row['made']:,}", f"{row['lost']:,}", f"{row['lost_share']:.2e}")
            lines.append(f"| {mode}, {grid} | {' | '.join(cells)} | {row['microseconds_per_update']:.1f} |")
    return "\n".join(lines)


def _gemm(result: Result) -> str:
    lines = ["| | us |", "|---|---|"]
    lines += [f"| {name} | {_spread(values, 1)} |" for name, values in result["microseconds"].items()]
    for key, title in (
        ("two_streams_of_one", "two streams, times of one stream with the full grid"),
        ("two_streams_of_products", "two streams, times of the products alone"),
    ):
        lines += [f"{title}, {name}: {_spread(values, 3)}" for name, values in result[key].items()]
    return "\n".join(lines)


def _host(result: Result) -> str:
    lines = ["| | us per step | times of flat |", "|---|---|---|"]
    for kind, optimizers in result.items():
        for optimizer, rows in optimizers.items():
            for name, row in rows.items():
                cells = (_spread(row["microseconds"], 1), _spread(row["times_of_flat"], 2))
                lines.append(f"| {kind}, {optimizer}, {name} | {' | '.join(cells)} |")
    return "\n".join(lines)


TABLES: Mapping[str, Callable[[dict[str, Any]], str]] = {
    "contenders": _contenders,
    "grids": _writers,
    "two_streams_of_one": _gemm,
    "issue": _host,
}
"""By a key that only such results have."""

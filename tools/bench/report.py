"""The suite as text: a table for each row that was measured, a line for each that was not."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

__all__ = ["row_text", "summary_text", "verdict_text"]

Row = Mapping[str, Any]
_ROLES = {"ours": "us", "other": "not counted", "peer": ""}


def row_text(row: Row) -> str:
    """One row, without an end of line."""
    head = f"{row['number']} {row['name']}"
    if row["status"] != "measured":
        return f"{head}: {row['status']}: {row['reason']}"
    lines = _values(row) if "values" in row else _contenders(row)
    return "\n".join([f"{head}: {row['title']}", *lines])


def _values(row: Row) -> list[str]:
    goal = f"goal: {row['goal']}" if row["goal"] else ""
    lines = [f"  {name}: {value:.4g}" for name, value in row["values"].items()]
    lines += [f"  {name}: left out: {reason}" for name, reason in row.get("left_out", {}).items()]
    return [*lines, *([f"  {goal}"] if goal else [])]


def _contenders(row: Row) -> list[str]:
    unit, best = row["unit"], row["best_peer"]
    heads = ("", "contender", f"{unit}/s", "10-90 %", "of the best peer", "95 %", "loss, equal time", "")
    table: list[tuple[str, ...]] = [heads]
    table += [_line(row, contender) for contender in row["contenders"]]
    lines = _aligned(table)
    lines += [f"  {missing['name']}: not run: {missing['reason']}" for missing in row["not_run"]]
    lines += [f"  wrong, and not counted: {text}" for text in row["guard"]]
    if not row["interleaved"]:
        lines.append("  one after another, not in turns: two of them do not fit into memory")
    return [*lines, _claim(row, best)]


def _line(row: Row, contender: Row) -> tuple[str, ...]:
    per_update = contender["items_per_s"] / contender["updates_per_s"]["median"]
    rates = {key: _rate(value * per_update) for key, value in contender["updates_per_s"].items()}
    ratio = contender["of_best_peer"]
    shown = ("", "") if ratio is None else (f"{ratio['ratio']:.2f}", f"{ratio['low']:.2f}-{ratio['high']:.2f}")
    loss = contender["loss"]["at_equal_time"]
    notes = [_ROLES[contender["role"]] if contender["name"] != row["best_peer"] else "best peer"]
    notes += [f"MFU {contender['mfu']:.1%}"] if contender["mfu"] is not None else []
    equal = "" if loss is None else f"{loss:.3f}"
    spread = f"{rates['p10']}-{rates['p90']}"
    return (
        contender["letter"],
        contender["name"],
        rates["median"],
        spread,
        *shown,
        equal,
        ", ".join(filter(None, notes)),
    )


def _rate(value: float) -> str:
    return f"{value:,.0f}" if value >= 1000 else f"{value:.3g}"


def _aligned(table: Sequence[Sequence[str]]) -> list[str]:
    """Columns; the first two and the last to the left, numbers to the right."""
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    last = len(widths) - 1
    return [
        "  "
        + "  ".join(
            cell.ljust(width) if i in (0, 1, last) else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in table
    ]


def _claim(row: Row, best: str | None) -> str:
    claim = row["of_best_peer"]
    if claim is None:
        return "  no ratio: " + ("no peer was measured" if best is None else "no schedule of asyncpipe was measured")
    goal = row["goal"]
    met = "" if goal is None else f"; goal {goal:g}: {'met' if claim['ratio'] >= goal else 'missed'}"
    interval = f"{claim['low']:.2f}-{claim['high']:.2f}"
    return f"  {claim['name']}: {claim['ratio']:.2f} ({interval}) times the best peer, {best}{met}"


def verdict_text(verdict: Mapping[str, Any]) -> str:
    """One line of `--against`."""
    change = f"{verdict['before']:.2f}, now {verdict['now']:.2f} of the best peer"
    noise = f"{verdict['ratio']:.2f} ({verdict['low']:.2f}-{verdict['high']:.2f}) of before"
    return f"{verdict['row']}: {verdict['verdict']}: {verdict['contender']} was at {change}: {noise}"


def summary_text(rows: Sequence[Row]) -> str:
    """How many were measured, and why the others were not, the reasons once each."""
    measured = sum(row["status"] == "measured" for row in rows)
    reasons: dict[str, int] = {}
    for row in rows:
        if row["status"] == "not possible":
            reasons[row["reason"]] = reasons.get(row["reason"], 0) + 1
    counts = [f"{count} not possible: {reason}" for reason, count in reasons.items()]
    failed = sum(row["status"] == "failed" for row in rows)
    left_out = sum(row["status"] == "left out" for row in rows)
    counts += [f"{n} {what}" for n, what in ((failed, "failed"), (left_out, "left out")) if n]
    return "; ".join([f"{measured} of {len(rows)} rows measured", *counts])

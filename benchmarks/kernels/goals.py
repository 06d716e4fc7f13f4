"""The goals, checked against the results of one run."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from bench import Result
from contenders import FLAT, TABLE

__all__ = ["check_goals", "goals_table"]

SHARE = {"1e8": 0.96, "1.1e7": 0.85}
"""Of the faster of two large copies in the same round, fp32."""
SPEEDUP = ("1.1e7", 1.5)
"""Over torch fused, whose steps are in CUDA graphs too."""


def check_goals(results: Mapping[str, Result]) -> list[dict[str, Any]]:
    """One entry for each goal, optimizer and variant that was measured: what, goal, found with its spread, met."""
    updates = [result for name, result in results.items() if name.startswith("update ") and "contenders" in result]
    return [goal for result in updates if result["storage"] == "fp32" for goal in _goals_of(result)]


def _goals_of(result: Result) -> Iterator[dict[str, Any]]:
    contenders, size = result["contenders"], result["size"]
    for variant in (FLAT, TABLE):
        what = f"{result['optimizer']} {variant}, {size}"
        if size in SHARE and result["sets"] > 1:
            yield _goal(f"{what}: share of copy bandwidth", SHARE[size], contenders[variant]["of_copy"])
    if size == SPEEDUP[0] and "torch fused" in contenders:
        for variant, found in contenders["torch fused"]["times_of"].items():
            yield _goal(f"{result['optimizer']} {variant}, {size}: times as fast as torch fused", SPEEDUP[1], found)


def _goal(what: str, goal: float, found: Mapping[str, float]) -> dict[str, Any]:
    return {"what": what, "goal": goal, "found": dict(found), "met": found["median"] >= goal}


def goals_table(goals: list[dict[str, Any]]) -> str:
    lines = ["| goal | at least | median (10-90 % of rounds) | |", "|---|---|---|---|"]
    for goal in goals:
        found = goal["found"]
        cells = (goal["what"], f"{goal['goal']:.2f}", f"{found['median']:.3f} ({found['low']:.3f}-{found['high']:.3f})")
        lines.append(f"| {' | '.join(cells)} | {'met' if goal['met'] else '**missed**'} |")
    return "\n".join([*lines, f"\n{sum(goal['met'] for goal in goals)} of {len(goals)} goals met"])

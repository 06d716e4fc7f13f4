"""Rows as the suite gives them, with chosen seconds."""

from __future__ import annotations

from typing import Any

from asyncpipe.tools.bench.catalogue import CONTENDERS
from asyncpipe.tools.bench.training_row import summarise
from asyncpipe.tools.bench.turns import Turns
from asyncpipe.tools.bench.workloads import WORKLOADS

__all__ = ["FALLING", "HALVES", "LU", "ONE", "document", "trained"]

ONE, HALVES, LU = "eager, 1 thread", "2 threads, half a batch each", "asyncpipe async-lu"
FALLING = [2.0 * 0.95**n for n in range(40)]


def trained(
    seconds: dict[str, list[float]],
    losses: dict[str, list[float]] | None = None,
    missing: dict[str, str] | None = None,
    name: str = "cpu-mlp",
    goal: float | None = None,
) -> dict[str, Any]:
    """A row that trained."""
    names = list(seconds)
    turns = Turns(
        {n: (losses or {}).get(n, FALLING) for n in names},
        seconds,
        dict.fromkeys(names, 100),
        dict.fromkeys(names, 0.5),
        missing or {},
    )
    about = {"number": "14", "name": name, "title": "MLP 6 x 1024, batch 128", "goal": goal, "status": "measured"}
    return {**about, **summarise(WORKLOADS[name], "cpu", list(CONTENDERS.values()), turns)}


def document(*rows: dict[str, Any]) -> dict[str, Any]:
    return {"schema": "asyncpipe.bench/1", "rows": list(rows)}

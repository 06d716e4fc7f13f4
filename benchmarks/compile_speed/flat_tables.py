"""Flat tables against torch: generate, lower, verify and simulate the same explicit table, step by step."""

from __future__ import annotations

import random
from dataclasses import dataclass, replace
from typing import Any

import torch_peer
from clock import Stopwatch, ratio, spread
from irregular import irregular

from asyncpipe.tables.flat import FlatTable, Graph, generate, lower, retime, simulate, verify

__all__ = ["Size", "measure_irregular", "measure_regular", "measure_retime"]

STEPS = ["generate", "validate", "lower", "simulate"]
COSTS = {"F": 1, "B": 2}


@dataclass(frozen=True)
class Size:
    microbatches: int
    rounds: int
    devices: int = 8
    stages: int = 32


def measure_regular(size: Size) -> dict[str, Any]:
    """Interleaved 1F1B: ours, torch's four functions, and torch's constructor with its simulator, interleaved."""
    actions, ours, theirs = _interleaved(size, None)
    return _result(actions, ours, theirs, STEPS, ["construct", "simulate"])


def measure_irregular(size: Size) -> dict[str, Any]:
    """An order without a pattern, made by neither: lowered, verified and simulated by both."""
    actions, ours, theirs = _interleaved(size, irregular(size.devices, size.stages, size.microbatches))
    return _result(actions, ours, theirs, STEPS[1:], None)


def measure_retime(size: Size) -> dict[str, Any]:
    """New times after each stage got other costs; per kind of table the seconds of each round."""
    rng = random.Random(0)
    found: dict[str, Any] = {}
    tables = {"interleaved": generate("interleaved-1f1b", size.devices, size.stages, size.microbatches)}
    tables["no pattern"] = irregular(size.devices, size.stages, size.microbatches)
    for name, table in tables.items():
        for latency in (0, 200):
            watch = Stopwatch()
            times = simulate(_verified(lower(table)), COSTS, latency)
            for _ in range(size.rounds):
                costs = {
                    op: [rng.randint(900, 1100) * ticks for _ in range(size.stages)] for op, ticks in COSTS.items()
                }
                times = watch.time("retime", lambda t=times, c=costs: retime(t, c))
            summary = {clock: spread(getattr(watch, clock)["retime"]) for clock in ("wall", "cpu")}
            found[f"{name}, latency {latency}"] = {"actions": len(times.end), **summary}
    return found


def _interleaved(size: Size, table: FlatTable | None) -> tuple[int, Stopwatch, Stopwatch]:
    """The number of lowered actions, and our and torch's seconds; who goes first changes from round to round."""
    for warm_up in (_ours, _theirs):
        warm_up(replace(size, microbatches=16), Stopwatch())
    ours, theirs = Stopwatch(), Stopwatch()
    counts = set()
    for number in range(size.rounds):
        runs = [lambda: _ours(size, ours, table), lambda: _theirs(size, theirs, table)]
        for run in runs if number % 2 else runs[::-1]:
            counts.add(run())
    assert len(counts) == 1, "torch and we lower to different numbers of actions"
    return counts.pop(), ours, theirs


def _verified(table: FlatTable) -> Graph:
    graph = verify(table)
    assert isinstance(graph, Graph), graph
    return graph


def _ours(size: Size, watch: Stopwatch, given: FlatTable | None = None) -> int:
    table = given or watch.time(
        "generate", lambda: generate("interleaved-1f1b", size.devices, size.stages, size.microbatches)
    )
    lowered = watch.time("lower", lambda: lower(table))
    graph = watch.time("validate", lambda: _verified(lowered))
    times = watch.time("simulate", lambda: simulate(graph, COSTS))
    return len(times.end)


def _theirs(size: Size, watch: Stopwatch, given: FlatTable | None = None) -> int:
    devices, stages, microbatches = size.devices, size.stages, size.microbatches
    if given is None:
        watch.time("construct", lambda: torch_peer.construct(devices, stages, microbatches))
        rows = watch.time("generate", lambda: torch_peer.generate(devices, stages, microbatches))
    else:
        rows = torch_peer.as_torch(given)
    watch.time("validate", lambda: torch_peer.validate(rows, devices, stages, microbatches))
    dense = torch_peer.without_gaps(rows)
    lowered = watch.time("lower", lambda: torch_peer.lower(dense, devices, stages))
    watch.time("simulate", lambda: torch_peer.simulate(lowered, devices, stages))
    return sum(map(len, lowered.values()))


def _result(
    actions: int, ours: Stopwatch, theirs: Stopwatch, steps: list[str], as_called: list[str] | None
) -> dict[str, Any]:
    result: dict[str, Any] = {"actions": actions, "asyncpipe": ours.summary(), "torch": theirs.summary()}
    for clock in ("wall", "cpu"):
        mine, functions = ours.totals(clock, steps), theirs.totals(clock, steps)
        sums = {"asyncpipe": spread(mine), "torch, four functions": spread(functions)}
        ratios = {"torch, four functions": ratio(functions, mine)}
        if as_called:
            called = theirs.totals(clock, as_called)
            sums["torch, constructor and simulator"] = spread(called)
            ratios["torch, constructor and simulator"] = ratio(called, mine)
        result[f"{clock}_total"] = sums
        result[f"{clock}_ratio"] = ratios
    return result

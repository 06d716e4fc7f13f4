"""The largest stable lr * curvature of every stage: as `check` states it, and as measured on the serial back end."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
from quadratics import growing

from asyncpipe.compiler import Compiled, compile_schedule
from asyncpipe.runtime.optimizer_options import read_options
from asyncpipe.schedule import Schedule, load, load_text
from asyncpipe.schedule.source import Report
from asyncpipe.verify.stable_rate import stable_rates, step_rule

__all__ = ["Case", "cases", "measure"]

CONSTANT = "streams: {{main: {{runs: [F, B, U], body: ['F[0, m]', 'B[0, m-{0}]', 'U[0, m-{0}]']}}}}"
OWNERS = "streams: {worker: {runs: [F, B, U], count: 4}}\nrules: ['U[s, g] after B[0, hi]']\n"
OWNERS += "update: {write: racy, owner: stream}"
PLAIN = {"momentum": 0.0}
HEAVY = {"momentum": 0.9}
NESTEROV = {"momentum": 0.9, "nesterov": True}
FINEST = 0.005
"""The measured gains are this far apart, relative to the stated one."""
WIDEST = 0.05
SOME = 0.2
"""Where no gain is stable, these around it are tried."""


@dataclass(frozen=True)
class Case:
    name: str
    schedule: Schedule
    stages: int
    options: dict[str, Any] = field(default_factory=dict)
    """Of sgd."""


def schedule_of(text: str) -> Schedule:
    report = Report()
    schedule = load_text(f"asyncpipe: 1\n{text}\n", "inline.yaml", report)
    assert schedule is not None, report.diagnostics
    return schedule


def cases(smoke: bool) -> Iterator[Case]:
    delays = (0, 2) if smoke else (0, 1, 2, 4, 8, 16)
    for options in (PLAIN, HEAVY, NESTEROV):
        for delay in delays:
            yield Case(f"staleness {delay}", schedule_of(CONSTANT.format(delay)), 1, options)
    if smoke:
        return
    for name in ("async-lu", "async-bu", "pipedream", "pipedream-2bw", "ddg", "fdg", "adl", "hogwild", "pipemare"):
        yield Case(name, load(name), 3, HEAVY)
    yield Case("spectrain (predict)", load("spectrain"), 3, HEAVY)
    yield Case("pipelined-bp (spike)", load("pipelined-bp"), 3, HEAVY)
    yield Case("pd-asgd-devices (overwrites)", load("pd-asgd-devices"), 3, PLAIN)
    yield Case("4 workers, owner: stream", schedule_of(OWNERS), 1, HEAVY)


def stated_gains(compiled: Compiled, options: dict[str, Any]) -> list[float]:
    rule = step_rule("sgd", read_options("sgd", options))
    assert rule is not None
    return [rate.gain for rate in stable_rates(compiled, rule)]


def measure(case: Case, updates: int) -> dict[str, Any]:
    """The stated gains of the case, and the last ones of a fine grid around them below which nothing grew."""
    compiled = compile_schedule(case.schedule, case.stages)
    stated = torch.tensor(stated_gains(compiled, case.options), dtype=torch.float64)
    grid = torch.arange(1 - WIDEST, 1 + WIDEST, FINEST, dtype=torch.float64)
    tried = torch.where(stated > 0, stated, SOME)[:, None] * grid
    count = (updates + 60 * max(compiled.staleness.max)) * case.schedule.update.every
    grows = growing(case.schedule, tried, {"use": "sgd", **case.options}, count)
    measured = [_last_stable(gains.tolist(), row.tolist()) for gains, row in zip(tried, grows, strict=True)]
    return {
        "case": case.name,
        **case.options,
        "staleness": [float(value) for value in compiled.staleness.apply],
        "stated": stated.tolist(),
        "measured": measured,
        "deviation": [m / s - 1 if m and s else None for m, s in zip(measured, stated.tolist(), strict=True)],
    }


def _last_stable(gains: list[float], grows: list[bool]) -> float | None:
    """The gain before the first that grew; 0 where all grew, None where none did."""
    if not any(grows):
        return None
    first = grows.index(True)
    return gains[first - 1] if first else 0.0

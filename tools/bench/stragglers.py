"""Row 10: one stream is late by delta with every microbatch; how much of the throughput is left?

Computations are sleeps, so that cores and whatever else they do hardly matter: what is measured is who waits for whom.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from itertools import repeat
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import mse_loss

from asyncpipe import Trainer
from asyncpipe.ir import Action, Op
from asyncpipe.tools.bench.setting import Setting

__all__ = ["DELAYS", "closed_form", "straggler_curve"]

DELAYS = (0.0, 0.5, 1.0, 2.0, 4.0, 8.0)
"""In T, the time of a forward through the whole network; a backward takes two."""
_STAGES = 4
_LATE: Mapping[str, tuple[str, Callable[[float], float]]] = {
    "sgd": ("main", lambda delay: 1 / (3 + delay)),
    "async-lu": ("backward[0]", lambda delay: min(1.0, 2 / (2 + delay))),
}
"""The late stream, and microbatches per T: all wait for it; the two backward streams of async-lu take turns, so that
both keep its pace, and its forward stream makes one per T at most."""
_MICROBATCHES = {"sgd": 8, "async-lu": 20}
"""Of each point; async-lu first fills its pipeline."""


def closed_form(schedule: str, delay: float) -> float:
    """Microbatches per T."""
    return _LATE[schedule][1](delay)


def straggler_curve(setting: Setting) -> dict[str, Any]:
    """By schedule and delay: microbatches per T, measured and by closed form."""
    delays = DELAYS if not setting.smoke else (0.0, 1.0)
    # So long that all points fit into the time: at a delay of 8 T sgd takes 11 T for a microbatch.
    cost = sum(count / closed_form(name, delay) for name, count in _MICROBATCHES.items() for delay in delays)
    stage_seconds = 0.001 if setting.smoke else min(0.05, 0.8 * setting.seconds / (cost * _STAGES))
    curves = {name: _curve(name, delays, _MICROBATCHES[name], stage_seconds) for name in _LATE}
    errors = [abs(point["error"]) for points in curves.values() for point in points]
    values = {f"async-lu of sgd at delta = {d:g} T": _of_sgd(curves, d) for d in delays}
    retained = {f"async-lu retains at delta = {p['delay']:g} T": p["retained"] for p in curves["async-lu"][1:]}
    values |= {**retained, "largest error of the closed form": max(errors)}
    return {"stage_seconds": stage_seconds, "microbatches": _MICROBATCHES, "curves": curves, "values": values}


def _curve(schedule: str, delays: Sequence[float], microbatches: int, stage_seconds: float) -> list[dict[str, float]]:
    """`error`: of the closed form. `retained`: of the schedule's own rate without a delay."""
    rates = [_rate(schedule, delay, microbatches, stage_seconds) for delay in delays]
    expected = [closed_form(schedule, delay) for delay in delays]
    return [
        {"delay": delay, "rate": rate, "closed_form": form, "error": form / rate - 1, "retained": rate / rates[0]}
        for delay, rate, form in zip(delays, rates, expected, strict=True)
    ]


def _of_sgd(curves: Mapping[str, list[dict[str, float]]], delay: float) -> float:
    rates = [next(p["rate"] for p in curves[name] if p["delay"] == delay) for name in ("async-lu", "sgd")]
    return rates[0] / rates[1]


def _rate(schedule: str, delay: float, microbatches: int, stage_seconds: float) -> float:
    """The slope of the last stage's forwards over time, without the first quarter, which fills the pipeline."""
    forward = _STAGES * stage_seconds
    starts: list[float] = []

    def hook(stream: int, action: Action) -> None:
        if (action.op, action.stage) == (Op.F, _STAGES - 1):
            starts.append(time.perf_counter())

    model = nn.Sequential(*(_SleepingLayer(stage_seconds) for _ in range(_STAGES)))
    late = {_LATE[schedule][0]: f"{delay * forward:.6f}s"} if delay else {}
    optimizer = {"use": "sgd", "lr": 1e-6}
    trainer = Trainer(model, schedule, mse_loss, optimizer, "threads", _STAGES, hook=hook, delays=late)
    trainer.fit(repeat((torch.ones(1, 1), torch.zeros(1, 1))), microbatches)
    kept = starts[microbatches // 4 :]
    return statistics.linear_regression(kept, range(len(kept))).slope * forward


class _Sleep(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, value: Tensor, seconds: float) -> Tensor:
        ctx.seconds = seconds
        time.sleep(seconds)
        return value.clone()

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Any:
        time.sleep(2 * ctx.seconds)
        return gradient, None


class _SleepingLayer(nn.Module):
    """One weight, so that a stage has something to update."""

    def __init__(self, seconds: float) -> None:
        super().__init__()
        self.seconds = seconds
        self.weight = nn.Parameter(torch.ones(1))

    def forward(self, value: Tensor) -> Tensor:
        slept: Tensor = _Sleep.apply(value * self.weight, self.seconds)  # type: ignore[no-untyped-call]
        return slept

"""What the staleness of a schedule leaves of the stable learning rates.

Each stage is looked at alone, as a quadratic whose gradient comes late by the stage's staleness. Counted besides it:
momentum, one optimizer state for each stream, copies that overwrite one another, sums of gradients, shrink,
lr_over_staleness, spike, and forwards that predict. The curvature is that of the loss of one microbatch.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any, Protocol

from asyncpipe.analysis.periodic_stability import largest_periodic_gain
from asyncpipe.analysis.stability import Delays, StepRule, heavy_ball, largest_gain, nesterov, share
from asyncpipe.analysis.staleness import Staleness
from asyncpipe.ir import Op
from asyncpipe.passes.diagram import Diagram
from asyncpipe.passes.plan import Plan
from asyncpipe.schedule import Schedule

__all__ = ["ADAPTIVE", "StableRate", "stable_rates", "step_rule"]

ADAPTIVE = ("adam", "adamw", "nadam")
"""Optimizers whose curvature is that of the loss with each coordinate divided by its step size (arXiv 2207.14484)."""


@dataclass(frozen=True)
class StableRate:
    """Of one stage: the largest lr * curvature, with the schedule's staleness and `without` any; see `share`."""

    staleness: Fraction
    gain: float
    without: float
    share: float

    @property
    def factor(self) -> float:
        """What `lr: {auto: ...}` multiplies the learning rate of the stage with: the share, at most 1."""
        return min(1.0, self.share)


class Compiled(Protocol):
    @property
    def schedule(self) -> Schedule: ...
    @property
    def stages(self) -> int: ...
    @property
    def diagram(self) -> Diagram: ...
    @property
    def plan(self) -> Plan: ...
    @property
    def staleness(self) -> Staleness: ...


def step_rule(use: object, options: Mapping[str, Any]) -> StepRule | None:
    """The step of a built-in optimizer, all its options given; None where it is not linear in the gradient (lion, muon)
    or not known."""
    make = _RULES.get(use) if isinstance(use, str) else None
    return None if make is None else make(options)


def stable_rates(compiled: Compiled, rule: StepRule, adaptive: bool = False) -> tuple[StableRate, ...]:
    """Per stage, by the planned staleness. `adaptive` optimizers undo what scales a gradient."""
    found: dict[object, float] = {}
    update = compiled.schedule.update
    summed = update.every if update.reduce == "sum" and not adaptive else 1
    without = largest_gain({0: 1.0}, rule)
    rates = []
    for stage, staleness in enumerate(compiled.staleness.apply):
        own = _own_rule(compiled, rule, stage)
        pattern = _pattern(compiled, own, stage)
        key = own, tuple(tuple(delays.items()) for delays in pattern)
        if key not in found:
            found[key] = largest_periodic_gain(pattern, own)
        gain = found[key] / _scale(compiled, stage, adaptive)
        rates.append(StableRate(staleness, gain / summed, without / summed, share(gain, own)))
    return tuple(rates)


def _sgd(options: Mapping[str, Any]) -> StepRule:
    momentum = options["momentum"]
    return nesterov(momentum) if options["nesterov"] else heavy_ball(momentum, options["dampening"])


def _adam(options: Mapping[str, Any]) -> StepRule:
    beta: float = options["betas"][0]
    return heavy_ball(beta, dampening=beta)


def _nadam(options: Mapping[str, Any]) -> StepRule:
    """A step along beta * v + (1 - beta) * g; without the warm-up of its momentum."""
    beta: float = options["betas"][0]
    return StepRule(beta, beta, by_velocity=beta, by_gradient=1 - beta)


_RULES: Mapping[str, Callable[[Mapping[str, Any]], StepRule]] = {
    "sgd": _sgd,
    "adam": _adam,
    "adamw": _adam,
    "nadam": _nadam,
}


def _transforms(compiled: Compiled) -> dict[str, float]:
    return {step.kind: 1.0 if step.value is None else float(step.value) for step in compiled.schedule.gradient}


def _own_rule(compiled: Compiled, rule: StepRule, stage: int) -> StepRule:
    """The rule with what the schedule changes about it at a stage."""
    if "spike" in _transforms(compiled) and 0 < rule.momentum < 1:
        kept = rule.momentum ** float(compiled.staleness.apply[stage])
        rule = replace(rule, by_velocity=kept, by_gradient=(1 - kept) / (1 - rule.momentum))
    update = compiled.schedule.update
    private = update.write == "overwrite"
    if not private and (update.owner == "shared" or not rule.momentum):
        return rule
    streams = {compiled.diagram.assign[Op.U, stage](action.index) for action in compiled.plan.updates[stage]}
    return replace(rule, owners=len(streams), private=private)


def _pattern(compiled: Compiled, rule: StepRule, stage: int) -> list[Delays]:
    """The weight of each delay in each update of a period."""
    means = [
        {lag: lags.count(lag) / len(lags) for lag in sorted(set(lags))} for lags in compiled.staleness.updates[stage]
    ]
    if compiled.schedule.weights.forward != "predict" or rule.by_gradient or rule.owners > 1:
        return list(means)
    horizon = float(compiled.staleness.apply[stage])
    return [_ahead(delays, horizon) for delays in means]


def _ahead(delays: Delays, horizon: float) -> dict[int, float]:
    """A prediction along the velocity of a heavy ball: theta plus `horizon` times its last change."""
    found: dict[int, float] = {}
    for delay, weight in delays.items():
        found[delay] = found.get(delay, 0.0) + weight * (1 + horizon)
        found[delay + 1] = found.get(delay + 1, 0.0) - weight * horizon
    return {delay: weight for delay, weight in found.items() if weight}


def _scale(compiled: Compiled, stage: int, adaptive: bool) -> float:
    """What the schedule multiplies the learning rate, or the gradient, of a stage with."""
    transforms = _transforms(compiled)
    slower = max(1.0, float(compiled.staleness.apply[stage])) ** -transforms.get("lr_over_staleness", 0.0)
    shrink = 1.0 if adaptive else transforms.get("shrink", 1.0)
    return float(slower * shrink ** (compiled.stages - 1 - stage))

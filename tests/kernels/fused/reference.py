"""The same updates in plain torch and float64, from the rules and transforms one folder above the kernels."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from asyncpipe.kernels.adam import adam
from asyncpipe.kernels.fused.options import Options, Transform
from asyncpipe.kernels.fused.scalars import SCALARS
from asyncpipe.kernels.lion import lion
from asyncpipe.kernels.nadam import nadam
from asyncpipe.kernels.sgd import sgd
from asyncpipe.kernels.transforms import (
    clip_norm,
    compensate_delay,
    corrected,
    drift,
    predict,
    shrink,
    staleness_rate,
)

__all__ = ["Reference"]


class Reference:
    """What `FusedUpdate` computes, without its rounding; all tensors are flat, float64 and on the CPU."""

    def __init__(self, rule: str, options: Options, numbers: Mapping[str, float], weights: Tensor) -> None:
        self.rule = rule
        self.options = options
        self.numbers = {name: first for name, (_, first) in SCALARS.items()} | dict(numbers)
        self.weights = weights.double().cpu().clone()
        self.states = [torch.zeros_like(self.weights) for _ in range(3)]
        self.ahead, self.drift, self.corrected = (torch.zeros_like(self.weights) for _ in range(3))
        self.product = torch.ones((), dtype=torch.float64)
        self.step = 0

    def update(self, gradient: Tensor, read: Tensor | None = None, staleness: float | None = None) -> None:
        """One step; `staleness` as measured, else the scalar."""
        numbers = self.numbers
        before = self.weights.clone()
        transformed = self._transform(gradient.double().cpu(), read)
        rate = numbers["lr"]
        if self.options.lr_over_staleness:
            measured = numbers["staleness"] if staleness is None else staleness
            rate = staleness_rate(rate, measured, numbers["staleness_power"])
        self.step += 1
        RULES[self.rule](self, transformed, rate)
        self._follow(before, rate)

    def _transform(self, gradient: Tensor, read: Tensor | None) -> Tensor:
        numbers = self.numbers
        transforms: dict[Transform, Callable[[list[Tensor]], list[Tensor]]] = {
            "shrink": lambda gs: shrink(gs, numbers["shrink"]),
            "clip_norm": lambda gs: clip_norm(gs, numbers["clip_norm"]),
            "delay_compensation": lambda gs: compensate_delay(
                gs,
                [self.weights],
                [self.weights if read is None else read.double().cpu()],
                numbers["delay_compensation"],
            ),
        }
        result: list[Tensor] = [numbers["scale"] * (-gradient if self.options.maximize else gradient)]
        for name in self.options.transforms:
            result = transforms[name](result)
        return result[0]

    def _follow(self, before: Tensor, rate: float) -> None:
        numbers, decoupled = self.numbers, self.options.decay == "decoupled"
        kept = 1 - rate * numbers["weight_decay"] if decoupled else 1.0
        velocity = self.states[0] if self.options.momentum else (kept * before - self.weights) / rate
        (self.ahead,) = predict([self.weights], [velocity], rate, numbers["horizon"])
        drift([self.drift], [before], [self.weights], numbers["drift_decay"])
        (self.corrected,) = corrected([self.weights], [self.drift], numbers["drift_horizon"])


def _sgd(at: Reference, gradient: Tensor, rate: float) -> None:
    numbers, options = at.numbers, at.options
    sgd(
        [at.weights],
        [gradient],
        [at.states[0]],
        [at.step],
        lr=rate,
        momentum=numbers["beta1"] if options.momentum else 0.0,
        dampening=numbers["dampening"],
        weight_decay=_decay(at),
        nesterov=options.nesterov,
        delay=numbers["staleness"] if options.spike else 0.0,
    )


def _adam(at: Reference, gradient: Tensor, rate: float) -> None:
    first, second, largest = ([state] for state in at.states)
    amsgrad = at.options.amsgrad
    adam([at.weights], [gradient], first, second, largest, [at.step], lr=rate, amsgrad=amsgrad, **_adaptive(at))


def _nadam(at: Reference, gradient: Tensor, rate: float) -> None:
    momentum_decay = at.numbers["momentum_decay"]
    first, second, product = ([state] for state in (*at.states[:2], at.product))
    more = {"lr": rate, "momentum_decay": momentum_decay} | _adaptive(at)
    nadam([at.weights], [gradient], first, second, product, [at.step], **more)


def _lion(at: Reference, gradient: Tensor, rate: float) -> None:
    betas = (at.numbers["beta1"], at.numbers["beta2"])
    lion([at.weights], [gradient], [at.states[0]], [at.step], lr=rate, betas=betas, weight_decay=_decay(at))


def _decay(at: Reference) -> float:
    return 0.0 if at.options.decay == "none" else at.numbers["weight_decay"]


def _adaptive(at: Reference) -> dict[str, Any]:
    numbers = at.numbers
    return {
        "betas": (numbers["beta1"], numbers["beta2"]),
        "eps": numbers["eps"],
        "weight_decay": _decay(at),
        "decoupled_weight_decay": at.options.decay == "decoupled",
    }


RULES: Mapping[str, Callable[[Reference, Tensor, float], None]] = {
    "sgd": _sgd,
    "adam": _adam,
    "nadam": _nadam,
    "lion": _lion,
}

"""One step of each optimizer in float64, written from the papers; what is timed must agree with it first."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from cases import Optimizer
from torch import Tensor

__all__ = ["reference_step"]


def reference_step(optimizer: Optimizer, weights: Tensor, gradient: Tensor, states: list[Tensor], step: int) -> Tensor:
    """The new weights; `states` change in place, `step` counts from 1. All float64."""
    numbers = optimizer.scalars
    if optimizer.options.get("decay") == "decoupled":
        decayed = weights * (1 - numbers["lr"] * numbers["weight_decay"])
    else:
        decayed = weights
    return decayed - numbers["lr"] * RULES[optimizer.rule](gradient, states, step, numbers)


def _sgd(g: Tensor, states: list[Tensor], step: int, numbers: Mapping[str, float]) -> Tensor:
    states[0].copy_(g if step == 1 else numbers["beta1"] * states[0] + g)
    return states[0]


def _adam(g: Tensor, states: list[Tensor], step: int, numbers: Mapping[str, float]) -> Tensor:
    m, v = _moments(g, states, numbers)
    unbiased = m / (1 - numbers["beta1"] ** step)
    direction: Tensor = unbiased / ((v / (1 - numbers["beta2"] ** step)).sqrt_() + numbers["eps"])
    return direction


def _nadam(g: Tensor, states: list[Tensor], step: int, numbers: Mapping[str, float]) -> Tensor:
    m, v = _moments(g, states, numbers)
    momenta = [numbers["beta1"] * (1 - 0.5 * 0.96 ** (t * numbers["momentum_decay"])) for t in range(1, step + 2)]
    product = 1.0
    for momentum in momenta[:-1]:
        product *= momentum
    mixed = g * ((1 - momenta[-2]) / (1 - product)) + m * (momenta[-1] / (1 - product * momenta[-1]))
    direction: Tensor = mixed / ((v / (1 - numbers["beta2"] ** step)).sqrt_() + numbers["eps"])
    return direction


def _lion(g: Tensor, states: list[Tensor], step: int, numbers: Mapping[str, float]) -> Tensor:
    direction = (numbers["beta1"] * states[0] + (1 - numbers["beta1"]) * g).sign_()
    states[0].mul_(numbers["beta2"]).add_(g, alpha=1 - numbers["beta2"])
    return direction


def _moments(g: Tensor, states: list[Tensor], numbers: Mapping[str, float]) -> tuple[Tensor, Tensor]:
    states[0].mul_(numbers["beta1"]).add_(g, alpha=1 - numbers["beta1"])
    states[1].mul_(numbers["beta2"]).addcmul_(g, g, value=1 - numbers["beta2"])
    return states[0], states[1]


RULES: Mapping[str, Callable[[Tensor, list[Tensor], int, Mapping[str, float]], Tensor]] = {
    "sgd": _sgd,
    "adam": _adam,
    "nadam": _nadam,
    "lion": _lion,
}

"""Every rule with every option of its own."""

from __future__ import annotations

from typing import NamedTuple

from asyncpipe.kernels.fused.options import Options

__all__ = ["ADAPTIVE", "MOMENTUM", "VARIANTS", "Variant"]


class Variant(NamedTuple):
    rule: str
    options: Options
    numbers: dict[str, float]


MOMENTUM = {"lr": 0.1, "beta1": 0.9}
ADAPTIVE = {"lr": 0.02, "beta1": 0.9, "beta2": 0.99, "eps": 1e-8}
NESTEROV = ADAPTIVE | {"momentum_decay": 4e-3}
DECAY = {"weight_decay": 0.1}

VARIANTS = {
    "sgd": Variant("sgd", Options(), {"lr": 0.1}),
    "sgd, decay": Variant("sgd", Options(decay="coupled"), {"lr": 0.1} | DECAY),
    "momentum": Variant("sgd", Options(momentum=True), MOMENTUM),
    "momentum, dampening": Variant("sgd", Options(momentum=True), MOMENTUM | {"dampening": 0.3}),
    "momentum, decay": Variant("sgd", Options(momentum=True, decay="coupled"), MOMENTUM | DECAY),
    "nesterov": Variant("sgd", Options(momentum=True, nesterov=True), MOMENTUM),
    "nesterov, decay": Variant("sgd", Options(momentum=True, nesterov=True, decay="coupled"), MOMENTUM | DECAY),
    "spike": Variant("sgd", Options(momentum=True, spike=True), MOMENTUM | {"staleness": 2.5}),
    "spike, no delay": Variant("sgd", Options(momentum=True, spike=True), MOMENTUM),
    "adam": Variant("adam", Options(), ADAPTIVE),
    "adam, no betas": Variant("adam", Options(), {"lr": 0.02, "eps": 1e-3}),
    "adam, decay": Variant("adam", Options(decay="coupled"), ADAPTIVE | DECAY),
    "amsgrad": Variant("adam", Options(amsgrad=True), ADAPTIVE | {"beta2": 0.5}),
    "adamw": Variant("adam", Options(decay="decoupled"), ADAPTIVE | DECAY),
    "adamw, amsgrad": Variant("adam", Options(decay="decoupled", amsgrad=True), ADAPTIVE | {"beta2": 0.5} | DECAY),
    "nadam": Variant("nadam", Options(), NESTEROV),
    "nadam, decay": Variant("nadam", Options(decay="coupled"), NESTEROV | DECAY),
    "nadam, decoupled decay": Variant("nadam", Options(decay="decoupled"), NESTEROV | DECAY),
    "lion": Variant("lion", Options(), ADAPTIVE),
    "lion, decay": Variant("lion", Options(decay="decoupled"), ADAPTIVE | DECAY),
}
"""Numbers that make each option matter within two steps."""

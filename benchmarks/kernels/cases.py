"""What is measured: five optimizers, three ways to store weights, and the bytes that each must move."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch

__all__ = ["OPTIMIZERS", "STORAGES", "Optimizer", "Storage", "bytes_per_parameter"]


@dataclass(frozen=True)
class Optimizer:
    """rule, options, scalars: of the fused kernel. torch: class in torch.optim with the same arithmetic, or None."""

    rule: str
    states: int
    options: Mapping[str, Any]
    scalars: Mapping[str, float]
    torch: type[torch.optim.Optimizer] | None = None
    arguments: Mapping[str, Any] = field(default_factory=dict)
    fused: bool = True
    capturable: bool = True


@dataclass(frozen=True)
class Storage:
    """States are float32. Without a master copy two-byte weights are rounded stochastically."""

    dtype: torch.dtype
    master: bool = False

    @property
    def stochastic(self) -> bool:
        return self.dtype == torch.bfloat16 and not self.master


ADAM = {"lr": 1e-3, "beta1": 0.9, "beta2": 0.999, "eps": 1e-8}
ADAM_ARGUMENTS = {"lr": 1e-3, "betas": (0.9, 0.999), "eps": 1e-8}

OPTIMIZERS = {
    "sgd": Optimizer(
        "sgd", 1, {"momentum": True}, {"lr": 1e-2, "beta1": 0.9},
        torch.optim.SGD, {"lr": 1e-2, "momentum": 0.9}, capturable=False,
    ),
    "adam": Optimizer("adam", 2, {}, ADAM, torch.optim.Adam, ADAM_ARGUMENTS),
    "adamw": Optimizer(
        "adam", 2, {"decay": "decoupled"}, {**ADAM, "weight_decay": 0.01},
        torch.optim.AdamW, {**ADAM_ARGUMENTS, "weight_decay": 0.01},
    ),
    "nadam": Optimizer(
        "nadam", 2, {}, {**ADAM, "momentum_decay": 4e-3},
        torch.optim.NAdam, {**ADAM_ARGUMENTS, "momentum_decay": 4e-3}, fused=False,
    ),
    "lion": Optimizer(
        "lion", 1, {"decay": "decoupled"}, {"lr": 1e-3, "beta1": 0.9, "beta2": 0.99, "weight_decay": 0.1},
        arguments={"lr": 1e-3, "betas": (0.9, 0.99), "weight_decay": 0.1},
    ),
}  # fmt: skip
"""torch has no Lion and no fused NAdam; its SGD needs no `capturable`. sgd has no weight decay, which helps torch's
foreach, that would need another pass."""

STORAGES = {
    "fp32": Storage(torch.float32),
    "bf16 + fp32 master": Storage(torch.bfloat16, master=True),
    "bf16 stochastic": Storage(torch.bfloat16),
}


def bytes_per_parameter(optimizer: Optimizer, storage: Storage) -> int:
    """Each input read once, each output written once; gradients have the dtype of the weights."""
    size = storage.dtype.itemsize
    weights = 2 * 4 + size if storage.master else 2 * size
    return size + weights + 2 * 4 * optimizer.states

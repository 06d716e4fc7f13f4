"""What each follower of the weights, each transform of the gradient and an atomic write costs on top of plain sgd."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from arena import Arena, fused_update, new_arenas
from bench import Bench, Contender, Result, measure
from cases import OPTIMIZERS, STORAGES, bytes_per_parameter
from clock import Work
from shapes import lengths_of
from torch import Tensor

from asyncpipe.kernels.fused.options import Options

__all__ = ["measure_followers"]

BASE = "sgd with momentum"


@dataclass(frozen=True)
class Extra:
    """buffers: of the arena's length each. moved: bytes for each parameter on top of the base."""

    moved: int = 0
    options: Mapping[str, Any] = field(default_factory=dict)
    buffers: tuple[str, ...] = ()
    scalars: Mapping[str, float] = field(default_factory=dict)
    counters: bool = False


EXTRAS: dict[str, Extra] = {
    BASE: Extra(),
    "atomic": Extra(options={"atomic": True}),
    "private copy": Extra(4, buffers=("private",)),
    "peer copy": Extra(4, buffers=("peer",)),
    "prediction": Extra(4, buffers=("ahead",), scalars={"horizon": 2.0}),
    "drift": Extra(8, buffers=("drift",), scalars={"drift_decay": 0.9}),
    "drift and corrected weights": Extra(
        12, buffers=("drift", "corrected"), scalars={"drift_decay": 0.9, "drift_horizon": 2.0}
    ),
    "delay compensation": Extra(4, {"transforms": ("delay_compensation",)}, ("read",), {"delay_compensation": 0.1}),
    "norm clip (two launches)": Extra(4, {"transforms": ("clip_norm",)}, scalars={"clip_norm": 1.0}),
    "shrink": Extra(options={"transforms": ("shrink",)}, scalars={"shrink": 0.5}),
    "spike compensation": Extra(options={"spike": True}, scalars={"staleness": 2.0}),
    "version, staleness and histogram": Extra(
        options={"lr_over_staleness": True}, scalars={"staleness_power": 0.5}, counters=True
    ),
}
"""`atomic` moves as much: the reduction reads and writes in the L2 cache what the plain kernel loads and stores."""


def measure_followers(bench: Bench, size: str) -> Result:
    """Flat, fp32. `times_of` is what each costs in time, `expected` what it costs in bytes."""
    optimizer, storage, shapes = OPTIMIZERS["sgd"], STORAGES["fp32"], bench.size(size)
    arenas = new_arenas(bench.machine, shapes, optimizer, storage)
    parameters, plain = sum(lengths_of(shapes)), bytes_per_parameter(optimizer, storage)
    contenders = {
        name: Contender(
            bench.clock.prepare(_work(bench, arenas, extra), len(arenas)), parameters * (plain + extra.moved)
        )
        for name, extra in EXTRAS.items()
    }
    result = measure(bench, contenders, len(arenas), (BASE,))
    for name, row in result["contenders"].items():
        row["expected"] = 1 + EXTRAS[name].moved / plain
    return {"optimizer": "sgd", "storage": "fp32", "size": size, "parameters": parameters, **result}


def _work(bench: Bench, arenas: list[Arena], extra: Extra) -> Work:
    optimizer, storage = OPTIMIZERS["sgd"], STORAGES["fp32"]
    updates = [
        fused_update(
            bench.machine,
            arena,
            optimizer,
            storage,
            options=Options(**{**optimizer.options, **extra.options}),
            extra={name: _buffer(name, arena) for name in extra.buffers},
            counters=_counters(bench.machine.device) if extra.counters else None,
            scalars=extra.scalars,
        )
        for arena in arenas
    ]
    gradients = [arena.gradient for arena in arenas]
    steps: list[Callable[[Tensor], None]] = [update.flat for update in updates]
    return lambda step: steps[step % len(steps)](gradients[step % len(steps)])


def _buffer(name: str, arena: Arena) -> Tensor:
    return torch.zeros_like(arena.weights) if name == "drift" else arena.weights.clone()


def _counters(device: torch.device) -> dict[str, Tensor]:
    return {
        "version": torch.zeros(1, dtype=torch.int64, device=device),
        "reads": torch.zeros(1, dtype=torch.int64, device=device),
        "histogram": torch.zeros(16, dtype=torch.int64, device=device),
    }

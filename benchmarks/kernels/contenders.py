"""Ways to make one step: ours over a flat gradient and over separate tensors, and torch's three."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from arena import Arena, Machine, fused_update
from cases import Optimizer, Storage
from clock import Work
from shapes import starts_of
from torch import Tensor

from asyncpipe.kernels.lion import lion

__all__ = ["FLAT", "TABLE", "Peer", "ours", "peers"]

FLAT, TABLE = "flat", "table"
VARIANTS: dict[str, dict[str, bool]] = {
    "torch fused": {"fused": True},
    "torch foreach": {"foreach": True, "fused": False},
    "torch for-loop": {"foreach": False, "fused": False},
}


@dataclass(frozen=True)
class Peer:
    """`work(i)` makes a step on set i; `values` are the weights of the first set as one flat tensor."""

    work: Work
    values: Callable[[], Tensor]
    sets: int


def ours(machine: Machine, arenas: Sequence[Arena], optimizer: Optimizer, storage: Storage) -> dict[str, Work]:
    """Both variants, on the same buffers."""
    updates = [fused_update(machine, arena, optimizer, storage) for arena in arenas]

    def flat(step: int) -> None:
        updates[step % len(updates)].flat(arenas[step % len(updates)].gradient)

    def table(step: int) -> None:
        at = step % len(updates)
        updates[at].tensors(arenas[at].table, arenas[at].separate)

    return {FLAT: flat, TABLE: table}


def peers(
    arenas: Sequence[Arena], shapes: Sequence[tuple[int, ...]], optimizer: Optimizer, storage: Storage, capture: bool
) -> dict[str, Callable[[], Peer]]:
    """Those that torch has, made when called; `capture`: as a CUDA graph needs them.

    With a master copy: cast the gradients, step in float32, cast the weights, as mixed-precision training does.
    """
    if optimizer.torch is None:
        return {"foreach (asyncpipe.kernels.lion)": functools.partial(_lion_peer, arenas, shapes, optimizer, storage)}
    names = [name for name in VARIANTS if optimizer.fused or name != "torch fused"]
    return {name: functools.partial(_torch_peer, name, arenas, shapes, optimizer, storage, capture) for name in names}


@dataclass(frozen=True)
class _Parameters:
    """One set as separate tensors. `gradients` arrive; `cast` are the optimizer's float32 ones, with a master copy."""

    weights: list[Tensor]
    masters: list[Tensor]
    gradients: list[Tensor]
    cast: list[Tensor]

    def before(self) -> None:
        if self.cast:
            torch._foreach_copy_(self.cast, self.gradients)

    def after(self) -> None:
        if self.cast:
            torch._foreach_copy_(self.weights, self.masters)


def _parameters(arena: Arena, shapes: Sequence[tuple[int, ...]], storage: Storage) -> _Parameters:
    lengths = arena.table.lengths
    starts, _ = starts_of(lengths)

    def cut(flat: Tensor) -> list[Tensor]:
        places = zip(starts, lengths, shapes, strict=True)
        return [flat[start : start + length].view(shape).clone() for start, length, shape in places]

    weights = cut(arena.weights)
    gradients = [g.view(shape) for g, shape in zip(arena.separate, shapes, strict=True)]
    if not storage.master:
        return _Parameters(weights, weights, gradients, [])
    return _Parameters(weights, cut(arena.precise), gradients, [torch.empty_like(g).float() for g in gradients])


def _torch_peer(
    name: str,
    arenas: Sequence[Arena],
    shapes: Sequence[tuple[int, ...]],
    optimizer: Optimizer,
    storage: Storage,
    capture: bool,
) -> Peer:
    assert optimizer.torch is not None
    arguments: dict[str, Any] = {**optimizer.arguments, **VARIANTS[name]}
    if not optimizer.fused:
        arguments.pop("fused", None)
    if capture and optimizer.capturable:
        arguments["capturable"] = True
    sets = [_parameters(arena, shapes, storage) for arena in arenas]
    optimizers = [_torch_optimizer(optimizer.torch, arguments, parameters) for parameters in sets]

    def work(step: int) -> None:
        at = step % len(sets)
        sets[at].before()
        optimizers[at].step()
        sets[at].after()

    return Peer(work, functools.partial(_joined, sets[0].masters), len(sets))


def _torch_optimizer(
    kind: type[torch.optim.Optimizer], arguments: dict[str, Any], parameters: _Parameters
) -> torch.optim.Optimizer:
    updated = [torch.nn.Parameter(weights) for weights in parameters.masters]
    for parameter, gradient in zip(updated, parameters.cast or parameters.gradients, strict=True):
        parameter.grad = gradient
    return kind(updated, **arguments)


def _lion_peer(
    arenas: Sequence[Arena], shapes: Sequence[tuple[int, ...]], optimizer: Optimizer, storage: Storage
) -> Peer:
    """torch.optim has no Lion: this project's own, in plain foreach calls."""
    sets = [_parameters(arena, shapes, storage) for arena in arenas]
    momenta = [[torch.zeros_like(weights) for weights in parameters.masters] for parameters in sets]

    def work(step: int) -> None:
        at = step % len(sets)
        sets[at].before()
        lion(sets[at].masters, sets[at].cast or sets[at].gradients, momenta[at], (), **optimizer.arguments)
        sets[at].after()

    return Peer(work, functools.partial(_joined, sets[0].masters), len(sets))


def _joined(tensors: list[Tensor]) -> Tensor:
    return torch.cat([tensor.detach().flatten() for tensor in tensors])

"""The buffers of one stage, in several sets: what runs in turns over all of them does not find its data in the L2."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from cases import Optimizer, Storage
from shapes import lengths_of, starts_of
from torch import Tensor

from asyncpipe.kernels.fused.buffers import Buffers, Counters, States
from asyncpipe.kernels.fused.grid import Grid, choose_grid
from asyncpipe.kernels.fused.launch import FusedUpdate, new_counters
from asyncpipe.kernels.fused.options import Options
from asyncpipe.kernels.fused.scalars import Scalars
from asyncpipe.kernels.fused.table import GradientTable

__all__ = ["Arena", "Machine", "fused_update", "new_arenas"]

L2_MULTIPLE = 4
"""All sets together are this many times the L2 cache."""


@dataclass(frozen=True)
class Machine:
    """The device, bytes of its L2 cache, and the grid of every launch."""

    device: torch.device
    l2: int
    grid: Grid

    @classmethod
    def find(cls) -> Machine:
        device = torch.device("cuda", torch.cuda.current_device())
        l2 = int(getattr(torch.cuda.get_device_properties(device), "L2_cache_size", 0)) or 64 * 2**20
        return cls(device, l2, choose_grid(device))

    @classmethod
    def interpreted(cls) -> Machine:
        return cls(torch.device("cpu"), 0, Grid(2, block=16))

    def sets(self, footprint: int) -> int:
        """How many sets of so many bytes: at least two, except where the L2 cache does not matter."""
        return max(2, -(-L2_MULTIPLE * self.l2 // footprint)) if self.l2 else 1


@dataclass(frozen=True)
class Arena:
    """One set: all flat, `separate` the same gradient as one tensor for each parameter."""

    weights: Tensor
    master: Tensor | None
    gradient: Tensor
    separate: list[Tensor]
    states: States
    table: GradientTable

    @property
    def precise(self) -> Tensor:
        """What holds the weights most precisely."""
        return self.weights if self.master is None else self.master


def new_arenas(
    machine: Machine, shapes: Sequence[tuple[int, ...]], optimizer: Optimizer, storage: Storage, sets: int | None = None
) -> list[Arena]:
    """Random weights and gradients, states of zero; as many sets as the cache asks for, or `sets`."""
    lengths = lengths_of(shapes)
    starts, end = starts_of(lengths)
    table = GradientTable(starts, lengths, machine.device, machine.grid.block)
    size = storage.dtype.itemsize
    footprint = end * (2 * size + 4 * storage.master + 4 * optimizer.states)
    count = machine.sets(footprint) if sets is None else sets
    return [_new_arena(machine.device, table, starts, end, optimizer, storage) for _ in range(count)]


def _new_arena(
    device: torch.device, table: GradientTable, starts: list[int], end: int, optimizer: Optimizer, storage: Storage
) -> Arena:
    # Zero between the tensors: there a flat update changes nothing, and the two variants leave the same values.
    used = torch.zeros(end, device=device)
    for start, length in zip(starts, table.lengths, strict=True):
        used[start : start + length] = 1
    weights = torch.randn(end, device=device).mul_(used).to(storage.dtype)
    gradient = torch.randn(end, device=device).mul_(used).to(storage.dtype)
    states = [torch.zeros(end, device=device) for _ in range(optimizer.states)]
    return Arena(
        weights,
        weights.float() if storage.master else None,
        gradient,
        [gradient[start : start + length].clone() for start, length in zip(starts, table.lengths, strict=True)],
        States(*states),
        table,
    )


def fused_update(
    machine: Machine,
    arena: Arena,
    optimizer: Optimizer,
    storage: Storage,
    *,
    options: Options | None = None,
    extra: dict[str, Tensor] | None = None,
    counters: dict[str, Tensor] | None = None,
    grid: Grid | None = None,
    scalars: Mapping[str, float] | None = None,
) -> FusedUpdate:
    """The kernel over one arena; `options` replaces what the case has; `extra`, `counters`, `scalars` add to it."""
    chosen = Options(**optimizer.options) if options is None else options
    if storage.stochastic:
        chosen = replace(chosen, rounding="stochastic")
    seed = torch.ones(1, dtype=torch.int64, device=machine.device) if storage.stochastic else None
    own: Counters = new_counters(optimizer.rule, machine.device)._replace(seed=seed, **(counters or {}))
    buffers = Buffers(arena.weights, arena.master, **(extra or {}))
    numbers = Scalars(machine.device, **{**optimizer.scalars, **(scalars or {})})
    return FusedUpdate(optimizer.rule, chosen, buffers, arena.states, own, numbers, grid or machine.grid)

"""Tensors for kernels, each between two guards that no kernel may touch; and how far results are from the truth."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from asyncpipe.kernels.fused.buffers import Buffers, Counters, States
from asyncpipe.kernels.fused.device.rules import RULES, Rule
from asyncpipe.kernels.fused.grid import Grid
from asyncpipe.kernels.fused.launch import FusedUpdate, new_counters
from asyncpipe.kernels.fused.options import Options
from asyncpipe.kernels.fused.requirements import compute_dtype
from asyncpipe.kernels.fused.scalars import Scalars

__all__ = ["SMALL", "Memory", "grid_for", "relative_error", "same_bits"]

GUARD = 16
"""Elements on each side, so that what lies between starts at a multiple of 16 bytes."""
SENTINEL = -768.0
"""Exact in every float dtype."""
SMALL = Grid(programs=3, block=16)


class Memory:
    """Places tensors between guards, and makes updates of such tensors."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self._placed: list[tuple[Tensor, int]] = []

    def place(self, values: Tensor, dtype: torch.dtype | None = None) -> Tensor:
        """A copy on the device, in `dtype`."""
        n = values.numel()
        padded = torch.full((n + 2 * GUARD,), SENTINEL, dtype=dtype or values.dtype, device=self.device)
        self._placed.append((padded, n))
        return padded[GUARD : GUARD + n].copy_(values.flatten())

    def full(self, n: int, value: float, dtype: torch.dtype = torch.float32) -> Tensor:
        return self.place(torch.full((n,), value, dtype=dtype))

    def poison(self, n: int, dtype: torch.dtype = torch.float32) -> Tensor:
        """What must be written whole, or never read."""
        return self.full(n, torch.nan, dtype)

    def scalars(self, **numbers: float) -> Scalars:
        return Scalars(self.device, **numbers)

    def integers(self, *values: int) -> Tensor:
        """int64, as most counters are."""
        return torch.tensor(values, dtype=torch.int64, device=self.device)

    def update(
        self,
        rule: str | Rule,
        options: Options,
        numbers: Mapping[str, float],
        weights: Tensor | Buffers,
        *,
        grid: Grid = SMALL,
        state_dtype: torch.dtype | None = None,
        counters: Mapping[str, Tensor] | None = None,
    ) -> FusedUpdate:
        """An update of `weights`, alone or with what goes with them, all placed; states and scalars are new."""
        buffers = weights if isinstance(weights, Buffers) else Buffers(weights)
        dtype = state_dtype or compute_dtype(buffers.weights)
        states = self.states(rule, options, buffers.weights.numel(), dtype)
        first = self.counters(rule, **(counters or {}))
        return FusedUpdate(rule, options, buffers, states, first, self.scalars(**numbers), grid)

    def counters(self, rule: str | Rule, **more: Tensor) -> Counters:
        return new_counters(rule, self.device)._replace(**more)

    def states(self, rule: str | Rule, options: Options, n: int, dtype: torch.dtype) -> States:
        """Those that the options keep; zero, but for sgd's momentum, of which nothing may be read before step 1."""
        chosen = RULES[rule] if isinstance(rule, str) else rule
        first = torch.nan if rule == "sgd" else 0.0
        kept = [flag is None or getattr(options, flag) for flag in chosen.states.values()]
        return States(*(self.full(n, first, dtype) if keep else None for keep in kept))

    def assert_guards_untouched(self) -> None:
        for padded, n in self._placed:
            sides = torch.cat([padded[:GUARD], padded[GUARD + n :]])
            assert (sides == SENTINEL).all(), f"a kernel wrote beside a tensor of {n} elements: {sides}"


def grid_for(n: int) -> Grid:
    """Several blocks and a rest, in few enough steps of the interpreter."""
    return SMALL if n < 100 else Grid(programs=3, block=512 if n < 10_000 else 16_384)


def relative_error(found: Tensor, expected: Tensor) -> float:
    """||found - expected|| / ||expected||, 2-norms in float64."""
    expected = expected.double().cpu()
    return float((found.double().cpu() - expected).norm() / expected.norm())


def same_bits(found: Tensor, expected: Tensor) -> bool:
    return torch.equal(found.cpu().view(torch.uint8), expected.cpu().view(torch.uint8))

"""Half-precision weights updated in single precision, in plain torch: what the fused kernels do in one pass."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from asyncpipe.errors import UsageError
from asyncpipe.kernels.rounding import round_stochastically
from asyncpipe.runtime.arena import Arena
from asyncpipe.runtime.state_arena import widened
from asyncpipe.runtime.update_rule import ParameterState, UpdateRule, require_fit

__all__ = ["HALF", "HalfPrecisionRule", "require_bfloat16"]

HALF = (torch.bfloat16, torch.float16)
MASTER = "master"


class HalfPrecisionRule:
    """A rule on float32 copies of an arena, which `make` makes; what it leaves there is rounded into the arena.

    is_master: the copies keep what rounding cuts off, until somebody else writes the weight. Otherwise bfloat16 is
    rounded at random, without a bias, from numbers that `seed` begins. Parameters of other dtypes are updated as ever.
    """

    concurrent = False
    """All threads share the copies."""

    def __init__(
        self,
        arena: Arena,
        make: Callable[[Arena], UpdateRule],
        is_master: bool,
        seed: int = 0,
    ) -> None:
        if not is_master:
            require_bfloat16(arena)
        self._arena = arena
        self._is_master = is_master
        self._wide = _widened(arena)
        self._halves = [i for i, place in enumerate(arena.layout.places) if place.dtype in HALF and place.trainable]
        self._rule = make(self._wide)
        self.repeats = self._rule.repeats
        self._generator = torch.Generator(arena.layout.device).manual_seed(seed)
        self.generators: Sequence[torch.Generator] = () if is_master else (self._generator,)

    @property
    def state_bytes(self) -> int:
        return self._rule.state_bytes + self._wide.bytes

    def apply(self, gradients: Sequence[Tensor | None], lr: float) -> None:
        present = [i for i, gradient in enumerate(gradients) if gradient is not None]
        self._take_weights(present)
        wide = [None if g is None else g.to(view.dtype) for g, view in zip(gradients, self._wide.views, strict=True)]
        self._rule.apply(wide, lr)
        for i in present:
            self._arena.views[i].copy_(self._rounded(i))

    def parameter_states(self) -> list[ParameterState]:
        states = self._rule.parameter_states()
        for i in self._halves if self._is_master else ():
            if states[i]:
                states[i][MASTER] = self._wide.views[i].clone()
        return states

    def load_parameter_states(self, states: Sequence[ParameterState]) -> None:
        kept = {i: states[i][MASTER] for i in self._halves if self._is_master and MASTER in states[i]}
        for i, master in kept.items():
            shape = self._arena.layout.places[i].shape
            require_fit(self._arena.names[i], {MASTER: master}, {MASTER: shape})
        rest = [{key: state[key] for key in state if i not in kept or key != MASTER} for i, state in enumerate(states)]
        self._rule.load_parameter_states(rest)
        for i, view in enumerate(self._wide.views):
            view.copy_(torch.as_tensor(kept.get(i, self._arena.views[i])))

    def _take_weights(self, indices: Sequence[int]) -> None:
        """Into the copies, except where they are what the weights were rounded from."""
        for i in indices:
            weights, wide = self._arena.views[i], self._wide.views[i]
            if self._is_master and weights.dtype in HALF:
                wide.copy_(torch.where(wide.to(weights.dtype) == weights, wide, weights.to(wide.dtype)))
            else:
                wide.copy_(weights)

    def _rounded(self, i: int) -> Tensor:
        """Of the new weights, in their own dtype."""
        wide, dtype = self._wide.views[i], self._arena.views[i].dtype
        if dtype == torch.bfloat16 and not self._is_master:
            return round_stochastically(wide, self._generator)
        return wide.to(dtype)


def require_bfloat16(arena: Arena) -> None:
    """UsageError where stochastic rounding would meet float16."""
    coarse = [at.name for at in arena.layout.places if at.trainable and at.dtype == torch.float16]
    if coarse:
        raise UsageError(
            f"stochastic rounding is for bfloat16, found float16 parameters {', '.join(coarse)}",
            "choose `precision: master`, or convert them to bfloat16",
        )


def _widened(arena: Arena) -> Arena:
    """An arena of the same values, where half precision is single."""
    places = zip(arena.layout.places, arena.views, strict=True)
    return Arena.of(
        (at.name, view.to(widened(at.dtype), copy=True).requires_grad_(at.trainable)) for at, view in places
    )

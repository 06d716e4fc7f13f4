"""muon where a CUDA graph repeats its updates: nothing that changes from one to the next lies on the host."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from asyncpipe.kernels.muon import is_matrix
from asyncpipe.runtime.arena import Arena
from asyncpipe.runtime.builtin_rule import BuiltinRule, split_muon_options
from asyncpipe.runtime.fused_rule import FusedRule
from asyncpipe.runtime.optimizer_options import read_options
from asyncpipe.runtime.update_rule import Arithmetic, ParameterState

__all__ = ["MuonRule"]


class MuonRule:
    """Matrices by plain torch, other parameters by the fused AdamW, whose steps are counted on the device."""

    concurrent = False
    repeats = True
    generators: Sequence[torch.Generator] = ()

    def __init__(self, arena: Arena, options: Mapping[str, object], arithmetic: Arithmetic) -> None:
        chosen = {i for i, view in enumerate(arena.views) if is_matrix(view)}
        for_matrices, for_adamw, self._ratio = split_muon_options(read_options("muon", options))
        self._chosen = chosen
        self._matrices = BuiltinRule(_training_only(arena, chosen), "muon", for_matrices, arithmetic)
        rest = set(range(len(arena.views))) - chosen
        self._others = FusedRule(_training_only(arena, rest), "adamw", for_adamw)

    @property
    def state_bytes(self) -> int:
        return self._matrices.state_bytes + self._others.state_bytes

    def apply(self, gradients: Sequence[Tensor | None], lr: float) -> None:
        self._matrices.apply([g if i in self._chosen else None for i, g in enumerate(gradients)], lr)
        self._others.apply([None if i in self._chosen else g for i, g in enumerate(gradients)], lr * self._ratio)

    def parameter_states(self) -> list[ParameterState]:
        pairs = zip(self._matrices.parameter_states(), self._others.parameter_states(), strict=True)
        return [matrix if i in self._chosen else other for i, (matrix, other) in enumerate(pairs)]

    def load_parameter_states(self, states: Sequence[ParameterState]) -> None:
        self._matrices.load_parameter_states([s if i in self._chosen else {} for i, s in enumerate(states)])
        self._others.load_parameter_states([{} if i in self._chosen else s for i, s in enumerate(states)])


def _training_only(arena: Arena, indices: Collection[int]) -> Arena:
    """The same memory, where the other parameters are not trained."""
    places = enumerate(arena.layout.places)
    chosen = tuple(place if i in indices else replace(place, trainable=False) for i, place in places)
    return Arena.over(replace(arena.layout, places=chosen), arena.flat)

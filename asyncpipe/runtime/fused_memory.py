"""What the fused kernels work on besides gradients: flat tensors of each dtype, and what is kept of each view."""

from __future__ import annotations

import torch
from torch import Tensor

from asyncpipe.errors import UsageError
from asyncpipe.kernels.fused.buffers import Buffers, States
from asyncpipe.kernels.fused.checks import FLOATS
from asyncpipe.kernels.fused.device.rules import RULES
from asyncpipe.runtime.arena import Arena
from asyncpipe.runtime.attachments import Attachments
from asyncpipe.runtime.fused_options import FusedOptions
from asyncpipe.runtime.half_precision_rule import HALF, require_bfloat16
from asyncpipe.runtime.state_arena import StateArena, same, widened
from asyncpipe.runtime.update_rule import Precision

__all__ = ["FusedMemory"]


class FusedMemory:
    """States under torch.optim's names, `master` and `drift`, each in the layout of the arena.

    Only dtypes with something to train have a state.
    """

    def __init__(self, arena: Arena, chosen: FusedOptions, attachments: Attachments, precision: Precision) -> None:
        self._arena = arena
        self._attached = attachments.arenas
        self.dtypes = list(dict.fromkeys(place.dtype for place in arena.layout.places if place.trainable))
        _require_dtypes(arena, precision)
        width = same if precision == "plain" else widened
        kept = {
            name: StateArena(arena.layout, lambda dtype: width(dtype) if dtype in self.dtypes else None)
            for name, flag in RULES[chosen.rule].states.items()
            if flag is None or getattr(chosen.options, flag)
        }
        if precision == "master":
            halves = [dtype for dtype in self.dtypes if dtype in HALF]
            if halves and attachments.private is not None:
                raise UsageError(
                    "`precision: master` with private weights: updates begin from these, never from the copies",
                    "choose `precision: stochastic`, or let all streams share the weights",
                )
            kept["master"] = StateArena(arena.layout, lambda dtype: widened(dtype) if dtype in halves else None)
        if attachments.drift_decay is not None:
            kept["drift"] = StateArena(arena.layout, lambda dtype: widened(dtype) if dtype in self.dtypes else None)
        self._rule = RULES[chosen.rule]
        self._kept = kept

    @property
    def bytes(self) -> int:
        """The size of all states."""
        return sum(state.bytes for state in self._kept.values())

    def of_view(self, i: int) -> dict[str, Tensor]:
        """What is kept of one view, by name; empty for one of another dtype."""
        return {name: state.views[i] for name, state in self._kept.items() if i in state.views}

    def buffers(self, dtype: torch.dtype) -> Buffers:
        """The flat tensors of one dtype."""
        attached = {name: arena.flat[dtype] for name, arena in self._attached.items()}
        own = {name: self._flat(name, dtype) for name in ("master", "drift")}
        return Buffers(self._arena.flat[dtype], **attached, **own)

    def states(self, dtype: torch.dtype) -> States:
        """The same of the optimizer's states, in the order in which its rule takes them."""
        return States(*(self._flat(name, dtype) for name in self._rule.states))

    def _flat(self, name: str, dtype: torch.dtype) -> Tensor | None:
        return self._kept[name].flat.get(dtype) if name in self._kept else None


def _require_dtypes(arena: Arena, precision: Precision) -> None:
    trainable = [place for place in arena.layout.places if place.trainable]
    wrong = [f"{place.name} ({place.dtype})" for place in trainable if place.dtype not in FLOATS]
    if wrong:
        raise UsageError(
            f"updates on CUDA need parameters of {', '.join(map(str, FLOATS))}, found {', '.join(wrong)}",
            "convert them, or choose torch.optim.NAME, such as torch.optim.Adam, which updates whatever torch can",
        )
    if precision == "stochastic":
        require_bfloat16(arena)

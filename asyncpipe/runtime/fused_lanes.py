"""What the launches of a stage share, and what they have for themselves."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from asyncpipe.kernels.fused.buffers import Counters
from asyncpipe.kernels.fused.launch import FusedUpdate
from asyncpipe.kernels.fused.scalars import Scalars
from asyncpipe.kernels.fused.table import GradientTable

__all__ = ["History", "Lane", "Lanes"]


@dataclass(frozen=True, eq=False)
class History:
    """Trainable views of one dtype that were updated equally often, and their counters, which all streams share."""

    dtype: torch.dtype
    indices: tuple[int, ...]
    counters: Counters

    def divided(self, gradients: Sequence[Tensor | None]) -> list[History]:
        """Itself where all its views have gradients or none has; else two, whose counts go separate ways from here."""
        present = tuple(i for i in self.indices if gradients[i] is not None)
        if len(present) in (0, len(self.indices)):
            return [self]
        absent = tuple(i for i in self.indices if gradients[i] is None)
        copied = {"step": self.counters.step.clone(), "product": _clone(self.counters.product)}
        return [replace(self, indices=present), History(self.dtype, absent, self.counters._replace(**copied))]


class Lane:
    """What the launches of one thread on one stream have for themselves: they follow one another.

    Numbers on the device lie here and not in the rule, since a stream could not wait for what another one writes.
    """

    def __init__(self, scalars: Scalars) -> None:
        self.scalars = scalars
        self.ticket = torch.zeros(1, dtype=torch.int32, device=scalars.tensor.device)
        self.rate: float | None = None
        self.from_device = False
        self.histories: tuple[History, ...] = ()
        self.updates: list[tuple[FusedUpdate, GradientTable]] = []

    def set_rate(self, rate: float | Tensor) -> None:
        """Write lr where it changed. Whether it did is not known here once it came from the device: a captured launch
        writes it again at each replay.
        """
        if isinstance(rate, Tensor):
            self.from_device = True
            self.scalars.view("lr").copy_(rate)
        elif self.from_device or rate != self.rate:
            self.rate = rate
            self.scalars.set(lr=rate)


class Lanes:
    """By thread and stream. They stay when the thread ends: a captured graph knows their memory by address only."""

    def __init__(self) -> None:
        self._found: dict[tuple[int, int], Lane] = {}

    def of(self, stream: int, make: Callable[[], Lane]) -> Lane:
        """That of the calling thread, made if it is the first time."""
        key = threading.get_ident(), stream
        if key not in self._found:
            self._found[key] = make()
        return self._found[key]


def _clone(tensor: Tensor | None) -> Tensor | None:
    return None if tensor is None else tensor.clone()

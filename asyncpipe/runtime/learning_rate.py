"""The learning rate as a pure function of the update index."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from asyncpipe.errors import UsageError

__all__ = ["LearningRate"]


@dataclass(frozen=True)
class LearningRate:
    """`lr` throughout, or half a cosine over `t_max` updates to `min_lr`, then that (arXiv 1608.03983).

    `warmup` updates come before either and rise evenly from `warmup_start`; the one after them is at `lr`.
    """

    lr: float
    t_max: int | None = None
    min_lr: float = 0.0
    warmup: int = 0
    warmup_start: float = 0.0

    def __post_init__(self) -> None:
        for name in ("lr", "min_lr", "warmup_start"):
            _require(name, getattr(self, name), "a finite number of at least 0", _is_rate)
        _require("warmup", self.warmup, "an integer of at least 0", lambda value: _is_count(value, 0))
        if self.t_max is not None:
            _require("t_max", self.t_max, "an integer of at least 1", lambda value: _is_count(value, 1))
        for name in ("min_lr", "warmup_start"):
            _require(name, getattr(self, name), f"at most lr = {self.lr}", lambda value: value <= self.lr)

    def at(self, update: int) -> float:
        """The learning rate of update `update`, counted from 0."""
        if update < self.warmup:
            return self.warmup_start + (self.lr - self.warmup_start) * update / self.warmup
        if self.t_max is None:
            return self.lr
        done = min(update - self.warmup, self.t_max)
        return self.min_lr + (self.lr - self.min_lr) * (1 + math.cos(math.pi * done / self.t_max)) / 2


def _require(name: str, value: Any, expected: str, accepts: Callable[[Any], bool]) -> None:
    if not accepts(value):
        raise UsageError(f"learning rate: {name} must be {expected}, found {value!r}")


def _is_rate(value: object) -> bool:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    return math.isfinite(value) and value >= 0


def _is_count(value: object, least: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= least

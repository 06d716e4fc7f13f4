"""The learning rate as a pure function of the update index."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from asyncpipe.errors import UsageError

__all__ = ["LearningRate", "StatedRate", "read_rate"]


@dataclass(frozen=True)
class StatedRate:
    """`lr: 0.1`, or `lr: {auto: 0.1}`: right without staleness, and scaled stage by stage to what staleness leaves."""

    lr: float
    auto: bool = False


def read_rate(value: object, owner: str) -> StatedRate:
    """The lr that the options of `owner` state; UsageError for anything but a number or `{auto: number}`."""
    auto = isinstance(value, Mapping) and set(value) == {"auto"}
    number = value["auto"] if isinstance(value, Mapping) and auto else value
    if not _is_rate(number):
        found = "nothing" if number is None else repr(number)
        example = "as in lr: 0.1, or lr: {auto: 0.1} with the rate that is right without staleness"
        raise UsageError(f"{owner}: lr must be a number of at least 0, found {found}", example)
    return StatedRate(float(number), auto)  # type: ignore[arg-type]


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

"""What an update does besides its optimizer's rule: transforms of the gradient, followers of the weights, counters."""

from __future__ import annotations

import types
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any, Literal

import torch
from torch import Tensor

from asyncpipe.errors import InternalError, UsageError
from asyncpipe.kernels.transforms import staleness_rate
from asyncpipe.runtime.arena import Arena
from asyncpipe.runtime.version_counters import VersionCounters

__all__ = ["Attachments", "TransformName"]

TransformName = Literal["shrink", "clip_norm", "delay_compensation"]
TRANSFORMS: tuple[str, ...] = ("shrink", "clip_norm", "delay_compensation")


@dataclass(frozen=True)
class Attachments:
    """Means against staleness, the same for every rule over an arena. Horizons and staleness are in updates.

    transforms: of the gradient, in this order: the factor of `shrink` (FDG), the largest norm of `clip_norm`, over
        the whole stage, the strength of `delay_compensation` (DC-ASGD).
    spike: spike compensation of sgd with momentum, for the delay `staleness`.
    staleness_power: lr / max(1, staleness) ** power (PipeMare T1), staleness as measured where `reads` is given.
    read: the weights that F read. private: the stream's own weights, updated instead and stored too.
    ahead: receives the weights `horizon` updates ahead. peer: receives the new weights too.
    drift_decay: keeps the mean change per update as a state (PipeMare T2); corrected: receives w - drift_horizon * it.
    version: int64 (1), counts these updates; reads: int64 (microbatches), the versions that their forwards found;
        histogram: int64 (h), counts of the measured staleness, the last for all that is longer.
    atomic: the change is added atomically, so that no update of another stream is lost.
    counters: count these updates and their staleness on the device, with the `reads` that each step is given; the rate
        stays that of the planned `staleness`.

    A view without a gradient stays in every arena.
    """

    transforms: Mapping[TransformName, float] = field(default_factory=dict)
    spike: bool = False
    staleness: float = 0.0
    staleness_power: float = 0.0
    read: Arena | None = None
    private: Arena | None = None
    peer: Arena | None = None
    ahead: Arena | None = None
    horizon: float = 0.0
    drift_decay: float | None = None
    corrected: Arena | None = None
    drift_horizon: float = 0.0
    version: Tensor | None = None
    reads: Tensor | None = None
    histogram: Tensor | None = None
    atomic: bool = False
    counters: VersionCounters | None = None

    def __post_init__(self) -> None:
        problems = [text for wrong, text in self._problems() if wrong]
        if problems:
            raise UsageError("update: " + "; ".join(problems))
        # The order of a mapping is part of its meaning here, and nobody may change it later.
        object.__setattr__(self, "transforms", types.MappingProxyType(dict(self.transforms)))

    def _problems(self) -> list[tuple[bool, str]]:
        unknown = sorted(set(self.transforms) - set(TRANSFORMS))
        return [
            (bool(unknown), f"transforms are {', '.join(TRANSFORMS)}, found {', '.join(unknown)}"),
            ("delay_compensation" in self.transforms and self.read is None, "delay_compensation needs `read`"),
            (self.corrected is not None and self.drift_decay is None, "`corrected` needs `drift_decay`"),
            (self.reads is not None and self.version is None, "`reads` needs `version`"),
            (self.histogram is not None and self.reads is None, "`histogram` needs `reads`"),
            (self.version is not None and self.counters is not None, "either `version` or `counters`"),
        ]

    @property
    def is_empty(self) -> bool:
        """Whether an update does nothing but its optimizer's rule; staleness and horizons alone change nothing."""
        followers = (self.private, self.peer, self.ahead, self.drift_decay, self.version)
        changes = self.transforms or self.spike or self.staleness_power or self.atomic
        return not changes and all(follower is None for follower in followers)

    @property
    def arenas(self) -> dict[str, Arena]:
        """Those that are given, by the name of their field."""
        named = {one.name: getattr(self, one.name) for one in fields(self)}
        return {name: value for name, value in named.items() if isinstance(value, Arena)}

    def require_layout(self, arena: Arena) -> None:
        """InternalError where an arena is not laid out as the parameters are."""
        wrong = [name for name, other in self.arenas.items() if other.layout != arena.layout]
        if wrong:
            raise InternalError(f"{', '.join(wrong)}: expected an arena of the parameters' layout")

    def require_options(self, use: str, values: Mapping[str, Any]) -> None:
        """UsageError where spike compensation has no meaning for the optimizer."""
        plain = use == "sgd" and 0 < values["momentum"] < 1 and not values["dampening"] and not values["nesterov"]
        if self.spike and not plain:
            found = f"{use} with {', '.join(f'{name}: {value}' for name, value in values.items())}"
            raise UsageError(
                f"spike compensation is for the velocity of sgd, found {found}",
                "use sgd with a momentum between 0 and 1, without dampening and nesterov",
            )

    def rate(self, lr: float) -> float | Tensor:
        """lr over the staleness; float64 on the device of `reads` where it is measured."""
        if self.staleness_power == 0:
            return lr
        if self.version is None or self.reads is None:
            return staleness_rate(lr, self.staleness, self.staleness_power)
        measured = (self.version - self.reads).to(torch.float64).mean()
        return lr / measured.clamp(min=1.0) ** self.staleness_power

    def count(self, reads: Tensor | None = None) -> None:
        """One update more, after all its weights were stored. Never synchronises."""
        if self.counters is not None and reads is not None:
            self.counters.count(reads)
        if self.version is None:
            return
        if self.reads is not None and self.histogram is not None:
            found = (self.version - self.reads).clamp(0, self.histogram.numel() - 1)
            self.histogram.index_add_(0, found, torch.ones_like(found))
        self.version.add_(1)

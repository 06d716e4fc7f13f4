"""What is decided when an update is compiled: each choice removes the code of the others."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

__all__ = ["FLAGS", "TRANSFORMS", "Decay", "Options", "Rounding", "Transform"]

Transform = Literal["shrink", "clip_norm", "delay_compensation"]
Decay = Literal["none", "coupled", "decoupled"]
Rounding = Literal["nearest", "stochastic"]
TRANSFORMS: tuple[Transform, ...] = get_args(Transform)

FLAGS = ("momentum", "nesterov", "spike", "amsgrad")
"""Those that only some rules have."""


@dataclass(frozen=True)
class Options:
    """Flags of one update; the numbers that belong to them are in `Scalars`.

    transforms: of the scaled gradient, in this order, each at most once.
    lr_over_staleness: lr / max(1, staleness) ** power, staleness as measured, or the scalar where nothing is measured.
    decay: weight decay added to the gradient (sgd, adam), or multiplied onto the weights (adamw, lion).
    atomic: the change is added with an atomic operation; else the new value is stored (ordered, racy, overwrite).
    rounding: of the stored weights where they are bfloat16 without a master copy.
    momentum, nesterov, spike: sgd. amsgrad: adam. maximize: all.
    """

    transforms: tuple[Transform, ...] = ()
    lr_over_staleness: bool = False
    decay: Decay = "none"
    atomic: bool = False
    rounding: Rounding = "nearest"
    momentum: bool = False
    nesterov: bool = False
    spike: bool = False
    amsgrad: bool = False
    maximize: bool = False

    def __post_init__(self) -> None:
        problems = [text for wrong, text in self._contradictions() if wrong]
        if problems:
            raise ValueError("; ".join(problems))

    def _contradictions(self) -> list[tuple[bool, str]]:
        unknown = sorted(set(self.transforms) - set(TRANSFORMS))
        return [
            (self.decay not in get_args(Decay), f"decay is {', '.join(get_args(Decay))}, found {self.decay}"),
            (
                self.rounding not in get_args(Rounding),
                f"rounding is {', '.join(get_args(Rounding))}, found {self.rounding}",
            ),
            (bool(unknown), f"transforms are {', '.join(TRANSFORMS)}, found {', '.join(unknown)}"),
            (len(set(self.transforms)) < len(self.transforms), f"a transform is there twice: {self.transforms}"),
            (self.nesterov and not self.momentum, "nesterov needs momentum"),
            (self.spike and not self.momentum, "spike compensation needs momentum"),
            (self.spike and self.nesterov, "spike compensation replaces nesterov: choose one of them"),
        ]

"""How a weight begins, as data; biases that go with it begin at zero. No torch."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["FanInUniform", "HeNormal", "Initial", "LecunNormal", "Normal", "TruncatedNormal", "Zeros"]


@dataclass(frozen=True)
class Normal:
    """Mean 0."""

    std: float


@dataclass(frozen=True)
class TruncatedNormal:
    """Mean 0, drawn again outside of [-2, 2]."""

    std: float


@dataclass(frozen=True)
class HeNormal:
    """Variance 2 / (output channels * kernel height * kernel width): He et al. 2015, arXiv 1502.01852, equation 14."""


@dataclass(frozen=True)
class LecunNormal:
    """Variance 1 / inputs, cut off at two standard deviations of the normal that it is cut from: Flax's default."""


@dataclass(frozen=True)
class FanInUniform:
    """Between -1 / sqrt(inputs) and 1 / sqrt(inputs)."""


@dataclass(frozen=True)
class Zeros:
    """A residual branch or an output that begins silent."""


Initial = Normal | TruncatedNormal | HeNormal | LecunNormal | FanInUniform | Zeros

"""Round numbers for a time axis, and numbers as short text."""

from __future__ import annotations

import math

__all__ = ["number", "round_step", "ticks"]


def round_step(least: float) -> float:
    """The smallest 1, 2 or 5 times a power of ten that is at least `least`."""
    if least <= 0:
        return 1.0
    power = 10.0 ** math.floor(math.log10(least))
    return next(factor * power for factor in (1.0, 2.0, 5.0, 10.0, 20.0) if factor * power >= least * (1 - 1e-9))


def ticks(end: float, least: float) -> list[float]:
    """Round times from 0 to `end`, at least `least` apart."""
    step = round_step(least)
    return [i * step for i in range(math.floor(end / step * (1 + 1e-9)) + 1)]


def number(value: float, digits: int = 6) -> str:
    """At most so many digits after the point, and none that say nothing: `3`, `0.25`."""
    text = f"{value:.{digits}f}"
    if "." in text:
        text = text.rstrip("0").rstrip(".")
    return "0" if text == "-0" else text

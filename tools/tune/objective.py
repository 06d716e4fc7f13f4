"""What is tuned for: samples per second, or the seconds until the test loss came to a value."""

from __future__ import annotations

from dataclasses import dataclass

from asyncpipe.errors import UsageError
from asyncpipe.tools.tune.statistics import Interval

__all__ = ["Objective", "read_objective"]

SPEED = "samples/s"
_LOSS = "time-to-loss="


@dataclass(frozen=True)
class Objective:
    """`target`: the test loss; None: throughput alone."""

    target: float | None = None

    @property
    def kind(self) -> str:
        """Of the trials."""
        return "speed" if self.target is None else "loss"

    @property
    def unit(self) -> str:
        return SPEED if self.target is None else f"s to loss {self.target:g}"

    def shown(self, speed: Interval) -> Interval:
        """In the unit: trials give speeds, of a time its inverse."""
        if self.target is None:
            return speed
        return Interval(1 / speed.value, speed.high and 1 / speed.high, speed.low and 1 / speed.low)

    def text(self, value: float) -> str:
        return f"{value:,.0f}" if self.target is None and value >= 100 else f"{value:.3g}"


def read_objective(text: str) -> Objective:
    """UsageError for what is neither."""
    if text == SPEED:
        return Objective()
    try:
        target = float(text.removeprefix(_LOSS)) if text.startswith(_LOSS) else -1.0
    except ValueError:
        target = -1.0
    if not 0 < target < float("inf"):
        raise UsageError(f"--objective {text!r}: expected {SPEED}, or a loss to reach", "as in time-to-loss=0.5")
    return Objective(target)

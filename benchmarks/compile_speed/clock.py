"""Two clocks: wall time, and the processor time of this process, which other programs disturb less."""

from __future__ import annotations

import gc
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeVar

T = TypeVar("T")

__all__ = ["Stopwatch", "ratio", "spread"]


@dataclass
class Stopwatch:
    """Seconds of each named step, one value for each round. The garbage collector pauses, which helps torch most."""

    wall: dict[str, list[float]] = field(default_factory=dict)
    cpu: dict[str, list[float]] = field(default_factory=dict)

    def time(self, step: str, work: Callable[[], T]) -> T:
        gc.collect()
        gc.disable()
        try:
            wall, cpu = time.perf_counter(), time.process_time()
            result = work()
            wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
        finally:
            gc.enable()
        self.wall.setdefault(step, []).append(wall)
        self.cpu.setdefault(step, []).append(cpu)
        return result

    def totals(self, clock: str, steps: list[str]) -> list[float]:
        """The sum of some steps, per round."""
        taken = getattr(self, clock)
        return [sum(values) for values in zip(*(taken[step] for step in steps), strict=True)]

    def summary(self) -> dict[str, dict[str, dict[str, float]]]:
        return {
            clock: {step: spread(values) for step, values in getattr(self, clock).items()} for clock in ("wall", "cpu")
        }


def spread(values: list[float]) -> dict[str, float]:
    return {"median": statistics.median(values), "low": min(values), "high": max(values), "rounds": len(values)}


def ratio(slow: list[float], fast: list[float]) -> float:
    """Ratio of the medians."""
    return statistics.median(slow) / statistics.median(fast)

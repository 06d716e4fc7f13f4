"""Measured staleness over a whole training: what the version counters said, in the steady state of each run."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

from asyncpipe.ir import Op, Program
from asyncpipe.runtime.execution import Execution, Lag

__all__ = ["StalenessRecord", "steady_microbatches"]


class StalenessRecord:
    """Sums the lags of all runs; `summary` compares with what the compiler states."""

    def __init__(self, stages: int = 0) -> None:
        self.apply: list[Counter[int]] = [Counter() for _ in range(stages)]
        self.between: list[Counter[int]] = [Counter() for _ in range(stages)]
        self.everything: list[Counter[int]] = [Counter() for _ in range(stages)]
        self.device: list[Counter[int]] | None = None
        self.periods: list[Counter[int]] | None = None

    def add(self, execution: Execution) -> None:
        """Takes over a finished run: every microbatch into the histogram, the steady ones into the means."""
        for stage, lags in enumerate(execution.lags):
            self.everything[stage].update(lag.apply for lag in lags.values())
            for microbatch in steady_microbatches(execution.program, stage):
                # A worker that updates a block of stages leaves the others as they are.
                if microbatch in lags:
                    self._count(stage, lags[microbatch])
        if execution.on_device is not None:
            self.device = _sum(self.device, execution.on_device.everything)
            self.periods = _sum(self.periods, execution.on_device.periods)

    def _count(self, stage: int, lag: Lag) -> None:
        self.apply[stage][lag.apply] += 1
        self.between[stage][lag.forward_backward] += 1

    def summary(self) -> dict[str, Any]:
        """Lists per stage, null where no run was long enough to have a steady state."""
        return {
            "apply": [_mean(counts) for counts in self.apply],
            "max": [max(counts, default=None) for counts in self.apply],
            "forward_backward": [_mean(counts) for counts in self.between],
            "histogram": _words(self.everything),
            "device": self._of_device(),
        }

    def _of_device(self) -> dict[str, Any] | None:
        """As kernels counted; means and maxima are of launched periods, and without a graph of everything."""
        if self.device is None:
            return None
        steady = self.periods or self.device
        return {
            "apply": [_mean(counts) for counts in steady],
            "max": [max(counts, default=None) for counts in steady],
            "histogram": _words(self.device),
        }


def _words(counts: Sequence[Counter[int]]) -> list[dict[str, int]]:
    return [{str(k): each[k] for k in sorted(each)} for each in counts]


def _sum(known: list[Counter[int]] | None, more: Sequence[Counter[int]] | None) -> list[Counter[int]] | None:
    if known is None or more is None:
        return known if more is None else list(more)
    return [one + other for one, other in zip(known, more, strict=True)]


def _mean(counts: Counter[int]) -> float | None:
    total = sum(counts.values())
    return sum(value * count for value, count in counts.items()) / total if total else None


def steady_microbatches(program: Program, stage: int) -> range:
    """Microbatches whose forward and update both lie before the cooldown, a whole number of periods of them."""
    if not program.iterations:
        return range(0)
    last_update = max(i.action.index for i in program.body if i.action.op is Op.U and i.action.stage == stage)
    base = (program.start + (program.iterations - 1) * program.step) // program.every
    end = (base + last_update + 1) * program.every
    return range(program.start, program.start + (end - program.start) // program.step * program.step)

"""Seconds of one step: CUDA graphs of several steps between events, and plain calls for `--smoke`.

All that is compared runs in turns, and a ratio is one of the same round: clocks and neighbours disturb both sides.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeAlias

import torch

__all__ = ["Clock", "GraphClock", "HostClock", "Sample", "Work", "interleave", "ratios", "spread"]

Work: TypeAlias = Callable[[int], None]
"""Issues step i, on the buffers of set i modulo their number."""
MOST_STEPS = 240
"""In one graph: a for-loop over 62 tensors makes up to a thousand kernels of each."""


@dataclass(frozen=True)
class Sample:
    """`run` issues `steps` steps. `keep`: what must live as long."""

    run: Callable[[], object]
    steps: int
    keep: object = None


class Clock(Protocol):
    def prepare(self, work: Work, sets: int) -> Sample:
        """Something that can be timed and takes long enough, after a warm-up of every set."""

    def times(self, samples: Sequence[Sample]) -> list[float]:
        """Run each once, in this order; seconds of one step of each."""


class GraphClock:
    """Each sample is one graph of at least `seconds`, so that half a microsecond of an event is nothing."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds

    def prepare(self, work: Work, sets: int) -> Sample:
        for step in range(max(2, sets)):
            work(step)
        torch.cuda.synchronize()
        short = self._capture(work, sets)
        seconds = min(self.times([short])[0] for _ in range(2))
        times = max(1, min(round(self._seconds / (seconds * sets)), MOST_STEPS // sets))
        return short if times == 1 else self._capture(work, times * sets)

    def times(self, samples: Sequence[Sample]) -> list[float]:
        events = [
            (torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)) for _ in range(len(samples))
        ]
        # Not timed: while it runs the host issues what follows, so that the device never waits for a launch.
        samples[-1].run()
        for sample, (start, end) in zip(samples, events, strict=True):
            start.record()
            sample.run()
            end.record()
        torch.cuda.synchronize()
        return [
            start.elapsed_time(end) / 1e3 / sample.steps for sample, (start, end) in zip(samples, events, strict=True)
        ]

    def _capture(self, work: Work, steps: int) -> Sample:
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, capture_error_mode="thread_local"):
            for step in range(steps):
                work(step)
        graph.replay()
        torch.cuda.synchronize()
        return Sample(graph.replay, steps, graph)


class HostClock:
    """Calls on the CPU. Of interpreted kernels the times mean nothing; they show that the script works."""

    def prepare(self, work: Work, sets: int) -> Sample:
        return Sample(lambda: work(0), 1)

    def times(self, samples: Sequence[Sample]) -> list[float]:
        taken = []
        for sample in samples:
            start = time.perf_counter()
            sample.run()
            taken.append((time.perf_counter() - start) / sample.steps)
        return taken


def interleave(clock: Clock, samples: Mapping[str, Sample], rounds: int) -> dict[str, list[float]]:
    """Seconds of one step of each, one value for each round; the order rotates."""
    names = list(samples)
    taken: dict[str, list[float]] = {name: [] for name in names}
    for number in range(rounds):
        shift = number % len(names)
        order = names[shift:] + names[:shift]
        for name, seconds in zip(order, clock.times([samples[name] for name in order]), strict=True):
            taken[name].append(seconds)
    return taken


def spread(values: Sequence[float]) -> dict[str, float]:
    """Median, and what 10 % of the rounds are below and above."""
    tenths = statistics.quantiles(values, n=10, method="inclusive") if len(values) > 1 else [values[0]]
    return {"median": statistics.median(values), "low": tenths[0], "high": tenths[-1], "rounds": len(values)}


def ratios(numerators: Sequence[float], denominators: Sequence[float]) -> dict[str, float]:
    """The spread of the ratios within the rounds."""
    return spread([a / b for a, b in zip(numerators, denominators, strict=True)])

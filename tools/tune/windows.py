"""Windows of a trial, in samples per second: parts of one run's timeline, or whole runs under the eye of NVML."""

from __future__ import annotations

import time
from collections.abc import Callable
from itertools import pairwise
from typing import Any

from asyncpipe.analysis.prediction import microbatch_ends, steady_edges
from asyncpipe.ir import TimedRun
from asyncpipe.tools.nvml import Nvml, Sampler, available

__all__ = ["by_the_clock", "by_the_timeline"]


def by_the_timeline(run: TimedRun, batch: int, windows: int) -> list[float]:
    """Windows of the steady state, whole iterations each: what fills and drains the pipeline is left out."""
    ends = microbatch_ends((row.replica, row.action, row.end) for row in run.actions)
    first, last = steady_edges(len(ends), run.program)
    step = run.program.step * run.program.replicas
    iterations = (last - first) // step
    edges = [first + step * (iterations * window // windows) for window in range(windows + 1)]
    return [batch * (b - a) / (ends[b] - ends[a]) for a, b in pairwise(edges) if b > a]


def by_the_clock(
    fit: Callable[[], float], samples: int, windows: int, nvml: Nvml, period: float = 0.5
) -> dict[str, Any]:
    """Where there is no timeline, each window is a run of `samples`, whose seconds `fit` gives: `speeds`, `throttled`.

    A window in which heat or the power supply slowed the GPU down says nothing of the setting, and is dropped. The
    sampler runs in all trials alike.
    """
    speeds, throttled, gpu = [], 0, nvml.gpu(0)
    with Sampler(gpu, period) as sampler:
        for _ in range(windows):
            begin = time.perf_counter()
            seconds = fit()
            if available(sampler.window(begin).throttled):
                throttled += 1
            else:
                speeds.append(samples / seconds)
    found = sampler.window().document(samples * windows)
    return {"speeds": speeds, "throttled": throttled, "gpu": {**found, "sampler": sampler.cost.document()}}

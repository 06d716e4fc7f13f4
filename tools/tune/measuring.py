"""What a trial measures in its own process: samples per second in the steady state, or seconds to a test loss."""

from __future__ import annotations

import resource
from collections.abc import Callable
from typing import Any

import torch

from asyncpipe.data.batches import Batches
from asyncpipe.errors import UsageError
from asyncpipe.runtime.backends import CUDA_BACKENDS
from asyncpipe.tools.nvml import available, open_nvml
from asyncpipe.tools.tune.bench import ITERATIONS, Bench, prepare
from asyncpipe.tools.tune.layer_costs import measure_costs
from asyncpipe.tools.tune.neighbours import Neighbours
from asyncpipe.tools.tune.request import Request
from asyncpipe.tools.tune.windows import by_the_clock, by_the_timeline

__all__ = ["measure"]

_EVALUATION_BATCH = 256


def measure(request: Request) -> dict[str, Any]:
    """The result of a request, as plain JSON values."""
    kinds: dict[str, Callable[[Request], dict[str, Any]]] = {
        "costs": measure_costs,
        "speed": _measure_speed,
        "loss": _measure_loss,
    }
    return kinds[request.kind](request)


def _measure_speed(request: Request) -> dict[str, Any]:
    if request.backend in CUDA_BACKENDS:
        return _on_the_gpu(request)
    bench = prepare(request, request.schedule, request.overrides, request.threads)
    microbatches = bench.enough(request.seconds, request.warm_up)
    with Neighbours() as neighbours:
        run = bench.timed(microbatches)
    speeds = by_the_timeline(run, bench.batches.batch, request.windows)
    return {"speeds": speeds, "others": neighbours.others, **_facts(bench)}


def _on_the_gpu(request: Request) -> dict[str, Any]:
    """Who else computes there is asked once, before this process does."""
    with open_nvml() as nvml:
        known = available(nvml.gpu(0).other_processes())
        bench = prepare(request, request.schedule, request.overrides, request.threads)
        each = max(bench.enough(request.seconds, request.warm_up) // request.windows, bench.least(ITERATIONS))
        found = by_the_clock(lambda: bench.fit(each), each * bench.batches.batch, request.windows, nvml)
    return {**found, "other_processes": None if known is None else len(known), **_facts(bench)}


def _facts(bench: Bench) -> dict[str, Any]:
    trainer = bench.trainer
    staleness = [float(value) for value in trainer.predicted_staleness]
    return {"stages": len(trainer.parts), "staleness": staleness, "peak_bytes": _peak_bytes()}


def _peak_bytes() -> int:
    """Of this process, or of what it has on the GPU."""
    if torch.cuda.is_initialized():
        return torch.cuda.max_memory_reserved()
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def _measure_loss(request: Request) -> dict[str, Any]:
    """Seconds of training until the test loss came to the target, on a line between two evaluations."""
    bench = prepare(request, request.schedule, request.overrides, request.threads)
    test = Batches(bench.job.data.test, _EVALUATION_BATCH, shuffle=False, drop_last=False)
    total = bench.job.spec.train.epochs * len(bench.batches)
    assert request.target is not None
    with Neighbours() as neighbours:
        seconds, curve = _until(bench, test, request.target, total)
    speeds = [] if seconds is None else [1 / seconds]
    return {"speeds": speeds, "loss": curve[-1], "best": min(curve), "others": neighbours.others, **_facts(bench)}


def _until(bench: Bench, test: Batches, target: float, total: int) -> tuple[float | None, list[float]]:
    """(seconds of training until the loss was there, or None; the losses), evaluated four times in an epoch."""
    part = max(1, len(bench.batches) // 4, bench.least(1))
    spent, before = 0.0, (0.0, float(bench.trainer.evaluate(test.batches())["loss"]))
    losses = [before[1]]
    if losses[0] <= target:
        message = f"time-to-loss={target:g}: the test loss is {losses[0]:.4g} before any training"
        raise UsageError(message, "ask for a lower loss")
    while bench.done < total:
        spent += bench.fit(min(part, max(total - bench.done, bench.least(1))))
        loss = float(bench.trainer.evaluate(test.batches())["loss"])
        losses.append(loss)
        if loss <= target:
            share = (before[1] - target) / (before[1] - loss)
            return before[0] + share * (spent - before[0]), losses
        before = spent, loss
    return None, losses

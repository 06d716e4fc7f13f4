"""The JSON of `asyncpipe simulate`."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from typing import Any

from asyncpipe.analysis.bubbles import StreamTime
from asyncpipe.analysis.loops import Loop
from asyncpipe.analysis.simulate import Number, Spread, StreamUse
from asyncpipe.cli.simulate_text import cause_text
from asyncpipe.cli.simulation import Results
from asyncpipe.cli.statements import binding_text, bounds_json, memory_json, staleness_json
from asyncpipe.ir import relative_text

__all__ = ["document"]


def document(results: Results) -> dict[str, Any]:
    """The keys of the contract, then what else is known; times are in the schedule's cost unit."""
    found, instance = results.simulation, results.instance
    return {
        "schema": "asyncpipe.simulate/1",
        "stages": found.program.stages,
        "microbatches": instance.microbatches,
        "period": float(found.period),
        "makespan": _float(found.makespan),
        "speedup": float(found.speedup),
        "streams": [_stream(results, use, time) for use, time in zip(found.streams, results.streams, strict=True)],
        "staleness": staleness_json(found.staleness),
        "in_flight": list(results.memory.in_flight),
        "weight_versions": list(results.memory.versions),
        "bounds": bounds_json(results.bounds, results.instance.endless.unit),
        "schedule": found.program.schedule,
        "replicas": found.program.replicas,
        "throughput": float(found.throughput),
        "slots": list(instance.compiled.slots),
        "memory": memory_json(results.memory),
        "bound_by": _bound_by(results),
        "critical_path": _loop(results.path),
        "recurs": all(run.recurrence is not None for run in results.runs),
        "lambda": _lambda(results),
        "workers": _workers(results),
        "distributions": _distributions(results),
        "sweep": _sweep(results),
    }


def _workers(results: Results) -> dict[str, Any] | None:
    """The same where streams share threads; null unless asked."""
    found = results.on_workers
    if found is None:
        return None
    return {"count": found.workers.count, "period": found.period, "utilisation": list(found.utilisation)}


def _float(value: Number | None) -> float | None:
    return None if value is None else float(value)


def _stream(results: Results, use: StreamUse, time: StreamTime) -> dict[str, Any]:
    """`busy` is a time of the whole run; shares are of the steady state, and those of `waits` sum to `idle`."""
    run, diagram = results.runs[0], results.instance.compiled.diagram
    waits = [{"share": ticks / time.length, "because": cause_text(cause, run, diagram)} for cause, ticks in time.waits]
    return {
        "name": use.name,
        "device": use.device,
        "busy": _float(use.busy),
        "utilisation": float(use.utilisation),
        "idle": time.idle / time.length,
        "held": time.held / time.length,
        "waits": waits,
    }


def _bound_by(results: Results) -> dict[str, Any]:
    """What binds, in words (null where delays, stragglers or random times hold the streams back), and the cycle."""
    instance, found = results.instance, results.bounds
    calm = not (instance.timing.is_disturbed or instance.timing.is_random)
    period = Fraction(results.simulation.period) / instance.endless.unit
    return {
        "text": binding_text(found, period) if calm else None,
        "streams": list(found.streams),
        "cycle": _loop(found.cycle, instance.endless.unit),
    }


def _loop(loop: Loop | None, unit: Fraction = Fraction(1)) -> dict[str, Any] | None:
    if loop is None:
        return None
    return {
        "time": float(loop.time * unit),
        "microbatches": loop.microbatches,
        "steps": [
            {
                "action": relative_text(step.action),
                "because": step.reason,
                "line": step.where.line if step.where else None,
            }
            for step in loop.steps
        ],
    }


def _lambda(results: Results) -> float | None:
    """The paper's speed-up for this number of microbatches, null where it is not defined."""
    decoupled = results.decoupled
    if decoupled is None or decoupled.why_not:
        return None
    return float(decoupled.speedup(results.instance.microbatches))


def _distributions(results: Results) -> dict[str, Any] | None:
    found = results.simulation
    if not found.spreads:
        return None
    spreads = {name: _spread(spread) for name, spread in found.spreads.items()}
    return {"samples": found.samples, "seed": results.asked.seed, **spreads}


def _spread(spread: Spread | None) -> dict[str, float] | None:
    return None if spread is None else {"median": spread.median, "p10": spread.low, "p90": spread.high}


def _sweep(results: Results) -> dict[str, Any] | None:
    if not results.sweep:
        return None
    points: Sequence[dict[str, Any]] = [
        {
            "delay": float(p.delay) if isinstance(p.delay, Fraction) else str(p.delay),
            "throughput": float(p.throughput),
            "against": float(p.against),
            "ratio": float(p.ratio),
            "spread": _spread(p.spread),
        }
        for p in results.sweep
    ]
    against = None if results.against is None else results.against.endless.schedule
    return {"stream": str(results.swept), "against": against, "points": points}

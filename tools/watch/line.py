"""A look as one plain line, and as a document."""

from __future__ import annotations

import math
from typing import Any

from asyncpipe.tools.watch.watched import Look
from asyncpipe.tools.watch.words import span

__all__ = ["document", "line"]


def line(look: Look) -> str:
    """For logs: one look after another, each greppable."""
    seen, plan, left = look.seen, look.plan, look.seconds_left
    if look.state.kind == "waiting":
        return f"waiting: {look.state.words}"
    total = f" of {plan.microbatches:,}" if plan else ""
    parts = [f"{seen.microbatches:,}{total} microbatches"]
    parts += [] if seen.loss is None else [f"loss {seen.loss:.4f}"]
    parts += [] if seen.samples_per_s is None else [f"{seen.samples_per_s:,.0f} samples/s"]
    parts += [] if left is None else [f"{span(left)} left"]
    accuracy = seen.evaluation["accuracy"] if seen.evaluation else None
    parts += [] if accuracy is None else [f"test accuracy {100 * accuracy:.2f} %"]
    told = "" if look.state.kind == "running" or not look.state.words else f" ({look.state.words})"
    return f"{look.state.kind}{told}: {', '.join(parts)}"


def document(look: Look) -> dict[str, Any]:
    """`asyncpipe.watch/1`: seconds and bytes; what is null has its reason in `unavailable`."""
    seen, plan = look.seen, look.plan
    values = {
        "elapsed_s": look.elapsed,
        "loss": _finite(seen.loss),
        "samples_per_s": seen.samples_per_s,
        "seconds_left": look.seconds_left,
        "evaluation": None if seen.evaluation is None else {k: _finite(v) for k, v in seen.evaluation.items()},
        "staleness": [_named(counts) for counts in seen.staleness] or None,
        "staleness_sampled": [_named(counts) for counts in seen.sampled] or None,
        "streams": _streams(look),
        "gpus": None if look.gpus is None else [gpu.document() for gpu in look.gpus],
    }
    return {
        "schema": "asyncpipe.watch/1",
        "run": str(look.folder),
        "state": look.state.kind,
        "message": look.state.words,
        "last_row_s": look.silence,
        "schedule": plan and plan.schedule,
        "job": plan and plan.job,
        "backend": plan and plan.backend,
        "microbatches": seen.microbatches,
        "microbatches_planned": plan and plan.microbatches,
        "step": seen.step,
        "samples": seen.samples,
        "train_s": seen.train_s,
        "virtual_time": seen.virtual_time,
        "lr": seen.lr,
        **values,
        "damaged_rows": look.damaged,
        "unavailable": {key: _REASONS[key] for key, value in values.items() if value is None},
    }


_REASONS = {
    "elapsed_s": "the run is over, or there is no run.json that says when it began",
    "loss": "no microbatch yet, or not finite",
    "samples_per_s": "there are no two microbatches yet",
    "seconds_left": "only a run that is known to go on, with a speed and a plan, has it",
    "evaluation": "none yet",
    "staleness": "not known before the first evaluation",
    "staleness_sampled": "no divergence was measured yet",
    "streams": "the run is not timed (`run --timed`)",
    "gpus": "there is no run.json that says which",
}


def _finite(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _named(counts: dict[int, int]) -> dict[str, int]:
    return {str(value): counts[value] for value in sorted(counts)}


def _streams(look: Look) -> list[dict[str, Any]] | None:
    busy, plan = look.seen.busy, look.plan
    if busy is None or plan is None or len(busy) != len(plan.streams):
        return None
    return [{"name": name, "busy": share} for name, share in zip(plan.streams, busy, strict=True)]

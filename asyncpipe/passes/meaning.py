"""What the actions of a program mean, as its text says it: updates, weights, gradients, replicas."""

from __future__ import annotations

from typing import Any

from asyncpipe.passes.diagram import Diagram
from asyncpipe.schedule import Schedule
from asyncpipe.schedule.spec import Sync

__all__ = ["meaning"]


def meaning(schedule: Schedule, diagram: Diagram) -> dict[str, Any]:
    """The fields of a Program that say what its actions do; order and events say when."""
    update, (forward, backward) = schedule.update, schedule.weights.texts
    sync = schedule.replicas.sync
    return {
        "write": update.write,
        "reduce": update.reduce,
        "owner": update.owner,
        "scope": update.scope,
        "commit": update.commit,
        "forward_weights": forward,
        "backward_weights": backward,
        "gradient": tuple(t.kind if t.value is None else f"{t.kind}={t.value}" for t in schedule.gradient),
        "recompute": schedule.recompute.mode,
        "recomputed": tuple(sorted(diagram.recomputed)),
        "aux": schedule.aux.gradient,
        "local": tuple(sorted(diagram.local)),
        "replicas": schedule.replicas.count,
        "sync": () if sync is None else _words(sync),
    }


def _words(sync: Sync) -> tuple[str, ...]:
    if sync.kind == "average":
        return "average", str(sync.every), "blocking" if sync.blocking else "difference"
    if sync.kind == "outer":
        nesterov = ("nesterov",) if sync.nesterov else ()
        return "outer", str(sync.every), str(sync.lr), str(sync.momentum), *nesterov
    return ("push", sync.granularity) if sync.kind == "push" else (sync.kind,)

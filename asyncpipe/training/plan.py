"""run.json: what a run is going to do, written as it starts, for those who watch it. docs/metrics.md has the keys."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch

from asyncpipe.ir import AUTHORED, Program
from asyncpipe.runtime.backends import CUDA_BACKENDS, resolve_backend
from asyncpipe.runtime.process import ProcessIdentity
from asyncpipe.training.segments import Segment
from asyncpipe.training.trainer import Trainer

if TYPE_CHECKING:
    from asyncpipe.training.run import TrainingRun

__all__ = ["plan_document"]


def plan_document(run: TrainingRun, trainer: Trainer, segments: Sequence[Segment], seed: int) -> dict[str, Any]:
    """`asyncpipe.started/1`, of a trainer that is prepared."""
    assert trainer.compiled is not None
    program, backend = trainer.compiled.program(), resolve_backend(run.backend)
    return {
        "schema": "asyncpipe.started/1",
        "started": time.time(),
        "process": ProcessIdentity.of_this().document(),
        "schedule": run.schedule.name,
        "job": run.spec.name,
        "backend": backend,
        "seed": seed,
        "stages": program.stages,
        "replicas": program.replicas,
        "streams": [stream.name for stream in program.streams if any(op in AUTHORED for op in stream.runs)],
        "batch": run.spec.train.batch,
        "microbatches": sum(segment.microbatches for segment in segments),
        "updates": sum(segment.updates for segment in segments),
        "gpus": _gpus(program, run.emulate) if backend in CUDA_BACKENDS else [],
    }


def _gpus(program: Program, emulate: bool) -> list[str]:
    """Their UUIDs, by which another process finds them whatever numbers it has for them."""
    count = 1 if emulate else 1 + max(stream.device for stream in program.streams)
    used = range(min(count, torch.cuda.device_count()))
    return [str(torch.cuda.get_device_properties(ordinal).uuid) for ordinal in used]

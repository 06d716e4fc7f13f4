"""asyncpipe as a contender: one of its schedules, on `threads` or captured on `graph`."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import islice
from typing import Any

from asyncpipe import Trainer
from asyncpipe.runtime.cuda.api import Cuda
from asyncpipe.tools.bench.contender import Losses
from asyncpipe.tools.bench.problem import Problem, loss_of

__all__ = ["Scheduled", "on_runtime", "scheduled"]


@dataclass
class Scheduled:
    """Each call is a whole run: the pipeline fills and drains within its time."""

    problem: Problem
    trainer: Trainer
    _batches: Any = field(init=False)

    def __post_init__(self) -> None:
        self._batches = self.problem.stream()

    def train(self, updates: int, keep: Losses | None = None) -> None:
        report = self.trainer.fit(islice(self._batches, updates), updates)
        if keep is not None:
            keep.extend(report.losses)


def scheduled(
    problem: Problem, schedule: str, backend: str, stages: int | None = None, inductor: bool = False
) -> Scheduled:
    """With the update kernels that are its fastest. inductor: its stages are compiled, as those of C and CG."""
    workload = problem.workload
    options = {**workload.optimizer, "lr": workload.lr, "arithmetic": "fused"}
    numerics = {"autocast": "bf16"} if workload.precision == "bf16" else {}
    numerics |= {"memory_format": "channels_last"} if workload.channels_last else {}
    numerics |= {"compile": "inductor"} if inductor else {}
    trainer = Trainer(
        problem.model(),
        schedule,
        loss_of,
        options,
        backend,
        stages,
        intra_op_threads=None if problem.on_cuda else 1,
        emulate=problem.on_cuda,
        numerics=numerics,
    )
    return Scheduled(problem, trainer)


def on_runtime(problem: Problem, schedule: str, cuda: Cuda, stages: int | None = None, period: int = 8) -> Scheduled:
    """On `graph`, by way of a given CUDA runtime: one that is watched, or the recording of one."""
    from asyncpipe.runtime.cuda.platform import CudaPlatform

    made = scheduled(problem, schedule, "serial", stages)
    numerics = made.trainer.platform.numerics
    platform = CudaPlatform(cuda, True, problem.device, emulate=True, period=period, numerics=numerics)
    made.trainer.platform, made.trainer.run_backend = platform, platform.run
    return made

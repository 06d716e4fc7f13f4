"""What a capture has to know of what it repeats: that updates may be, and the generators that anything draws from."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch

from asyncpipe.errors import Diagnostic, UsageError
from asyncpipe.runtime.cuda.api import Cuda
from asyncpipe.runtime.execution import Execution
from asyncpipe.runtime.optimizers import StageOptimizer
from asyncpipe.runtime.traced import TracedStage

__all__ = ["refuse_host_steps", "register_generators"]


def refuse_host_steps(executions: Sequence[Execution]) -> None:
    """UsageError for an optimizer that counts on the host."""
    for execution in executions:
        for optimizer in _optimizers(execution):
            if not optimizer.repeats:
                message = (
                    f"optimizer {optimizer.name} keeps its steps or its rate on the host, and a graph would repeat"
                    " those of its capture"
                )
                hint = "choose sgd, adam, adamw, nadam, lion or muon, or use --backend streams"
                raise UsageError.of(Diagnostic("AP713", message, hint=hint))


def register_generators(cuda: Cuda, executions: Sequence[Execution]) -> None:
    """Before a capture, when the stages are traced: those of updates, and those that the user's code brings along."""
    for execution in executions:
        own = [generator for optimizer in _optimizers(execution) for generator in optimizer.generators]
        for generator in (*own, *_of_user_code(execution)):
            cuda.register_generator(generator)


def _of_user_code(execution: Execution) -> Iterator[torch.Generator]:
    """Generators are objects beside the graph of a stage."""
    for stage in execution.stages:
        divisions = stage.traces.divisions if isinstance(stage, TracedStage) else []
        for graph in (division.joint.graph for division in divisions):
            names = [str(node.target) for node in graph.graph.find_nodes(op="get_attr")]
            yield from (one for name in names if isinstance(one := getattr(graph, name, None), torch.Generator))


def _optimizers(execution: Execution) -> Iterator[StageOptimizer]:
    for updates in execution.updates:
        yield from updates.optimizers.values()
    for stage in execution.stages:
        if isinstance(stage, TracedStage) and stage.options.predictor is not None:
            yield stage.options.predictor.optimizer

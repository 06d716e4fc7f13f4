"""Traced graphs as Inductor compiles them: fused kernels in place of single operations, on the stream of the caller.

Compiling happens before a capture, since it loads kernels and may time variants of them. Inductor makes no CUDA graphs
of its own here. Random numbers are ATen's, from the same generators as without Inductor, which a capture knows.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import fx

from asyncpipe.errors import InternalError, MachineError, UserCodeError
from asyncpipe.runtime.out_of_memory import is_out_of_memory
from asyncpipe.runtime.traced.torch_tracing import compile_graph

__all__ = ["Compile", "Run", "by_inductor", "uncompiled"]

Run = Callable[..., Sequence[Any]]
Compile = Callable[[fx.GraphModule], Run]
"""Makes of a graph the function that runs."""

_NO_COMPILER = ("InvalidCxxCompiler", "TritonMissing", "GPUTooOldForTriton")


def uncompiled(graph: fx.GraphModule) -> Run:
    """One operation after another."""
    return graph.forward


def by_inductor(stage: int) -> Compile:
    """For graphs of a stage, which errors name: UserCodeError for an operation, MachineError without a compiler."""

    def compiled(graph: fx.GraphModule) -> Run:
        name = type(graph).__name__
        if torch.cuda.is_available() and torch.cuda.is_current_stream_capturing():
            raise InternalError(f"stage {stage}: {name} was not compiled before the capture")
        try:
            return compile_graph(graph)
        except Exception as error:
            if is_out_of_memory(error):
                raise
            raise _uncompilable(stage, name, error) from error

    return compiled


def _uncompilable(stage: int, graph: str, error: Exception) -> UserCodeError | MachineError:
    causes = list(_causes(error))
    reason = f"{type(causes[-1]).__name__}: {str(causes[-1]).strip().partition(chr(10))[0]}"
    if any(name in f"{type(cause).__name__} {cause}" for cause in causes for name in _NO_COMPILER):
        return MachineError(
            f"compile: inductor: this machine has no compiler that Inductor can use ({reason})",
            "install a C++ compiler for the CPU, Triton for CUDA, or leave `compile` out",
        )
    return UserCodeError(
        f"stage {stage} cannot be compiled by Inductor, in its {graph}: {reason}",
        "leave `compile` out, or replace the operation",
    )


def _causes(error: BaseException) -> Sequence[BaseException]:
    """The error, and what it came from, the first one last."""
    found: list[Any] = [error]
    while (cause := found[-1].__cause__) is not None:
        found.append(cause)
    return found

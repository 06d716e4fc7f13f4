"""The back ends by name, and what `auto` means."""

from __future__ import annotations

from collections.abc import Callable

import torch

from asyncpipe.errors import UsageError
from asyncpipe.ir import Program
from asyncpipe.runtime.numerics import Numerics
from asyncpipe.runtime.platform import CpuPlatform, Platform
from asyncpipe.runtime.replicas import ReplicaGroup
from asyncpipe.runtime.serial import run_serial
from asyncpipe.runtime.threads import Hook, run_threads, usable_cores

__all__ = ["BACKENDS", "CUDA_BACKENDS", "Backend", "choose_backend", "default_threads", "resolve_backend"]

Backend = Callable[[ReplicaGroup, Hook | None, Callable[[], None] | None], None]

BACKENDS: dict[str, Backend] = {"serial": run_serial, "threads": run_threads}
CUDA_BACKENDS = ("streams", "graph")


def resolve_backend(name: str) -> str:
    """`auto` is `threads`."""
    return "threads" if name == "auto" else name


def choose_backend(
    name: str,
    emulate: bool = False,
    period: int | None = None,
    numerics: Numerics | None = None,
    data: str = "auto",
    executables: int = 1,
) -> tuple[Platform, Backend]:
    """Where stages are trained, and who runs their actions; UsageError for an unknown name, MachineError without CUDA.

    emulate: one GPU stands for all devices. period: a graph has at least so many microbatches, default 8 or what
    fits. data: where CUDA back ends keep data sets, `auto`, `device` or `pinned`. executables: graphs of one period
    that are launched in turn.
    """
    numerics = numerics or Numerics()
    resolved = resolve_backend(name)
    if resolved in CUDA_BACKENDS:
        from asyncpipe.runtime.cuda.device import DeviceCuda
        from asyncpipe.runtime.cuda.platform import CudaPlatform

        in_graphs, first = resolved == "graph", torch.device("cuda", 0)
        platform = CudaPlatform(DeviceCuda(), in_graphs, first, emulate, period, numerics, data, executables)
        return platform, platform.run
    if resolved not in BACKENDS:
        known = ", ".join(("auto", *BACKENDS, *CUDA_BACKENDS))
        raise UsageError(f"no back end is called {name!r}", f"use one of {known}")
    if numerics.is_compiled:
        raise UsageError(
            f"compile: {numerics.compile} is for traced stages, and {resolved} runs stages by the autograd engine",
            "leave `compile` out, or use streams or graph",
        )
    return CpuPlatform(numerics), BACKENDS[resolved]


def default_threads(backend: str, program: Program) -> int:
    """Intra-op threads for each stream: `serial` leaves torch's setting, `threads` shares the cores out."""
    if resolve_backend(backend) == "serial":
        return torch.get_num_threads()
    return max(1, min(torch.get_num_threads(), usable_cores() // len(program.streams)))

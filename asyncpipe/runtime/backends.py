"""The CPU back ends by name, and what `auto` means."""

from __future__ import annotations

from collections.abc import Callable

import torch

from asyncpipe.errors import UsageError
from asyncpipe.ir import Program
from asyncpipe.runtime.execution import Execution
from asyncpipe.runtime.serial import run_serial
from asyncpipe.runtime.threads import Hook, run_threads, usable_cores

__all__ = ["BACKENDS", "Backend", "choose_backend", "default_threads", "resolve_backend"]

Backend = Callable[[Execution, Hook | None, Callable[[], None] | None], None]

BACKENDS: dict[str, Backend] = {"serial": run_serial, "threads": run_threads}


def resolve_backend(name: str) -> str:
    """`auto` is `threads` on a CPU."""
    return "threads" if name == "auto" else name


def choose_backend(name: str) -> Backend:
    """The back end of that name; UsageError for another."""
    backend = BACKENDS.get(resolve_backend(name))
    if backend is None:
        raise UsageError(f"no back end is called {name!r}", f"use one of auto, {', '.join(BACKENDS)}")
    return backend


def default_threads(backend: str, program: Program) -> int:
    """Intra-op threads for each stream: `serial` leaves torch's setting, `threads` shares the cores out."""
    if resolve_backend(backend) == "serial":
        return torch.get_num_threads()
    return max(1, min(torch.get_num_threads(), usable_cores() // len(program.streams)))

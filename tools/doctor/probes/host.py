"""Memory, shared memory, disk and terminal."""

from __future__ import annotations

from collections.abc import Iterator

from asyncpipe.tools.doctor.environment import Environment
from asyncpipe.tools.doctor.finding import Finding, fail, ok, warn
from asyncpipe.tools.doctor.sizes import GIB, MIB, size_text

__all__ = ["probe_disk", "probe_memory", "probe_shared_memory", "probe_terminal"]

_LEAST_MEMORY = 2 * GIB
_LEAST_SHARED = 256 * MIB
_LEAST_DISK = GIB
_LEAST_COLUMNS = 80


def probe_memory(environment: Environment) -> Iterator[Finding]:
    host = environment.host
    limit = "no limit" if host.memory_limit is None else f"limit {size_text(host.memory_limit)}"
    if host.memory_available is None:
        yield ok("memory", limit)
    elif host.memory_available < _LEAST_MEMORY:
        yield warn(
            "memory", f"{size_text(host.memory_available)} free, {limit}", "end other programs, or raise the limit"
        )
    else:
        yield ok("memory", f"{size_text(host.memory_available)} free, {limit}")
    if host.address_space_limit is not None:
        message = f"addresses end at {size_text(host.address_space_limit)}: CUDA reserves more than it uses"
        yield warn("memory", message, "ulimit -v unlimited")


def probe_shared_memory(environment: Environment) -> Iterator[Finding]:
    """Data workers and NCCL between processes use it; a container has 64 MiB by default."""
    free = environment.host.shared_memory_free
    if free is None:
        yield warn("shared memory", "no /dev/shm: data workers and NCCL need it")
    elif free < _LEAST_SHARED:
        message = f"{size_text(free)} free: little for data workers and NCCL"
        yield warn("shared memory", message, "start the container with --shm-size=1g")
    else:
        yield ok("shared memory", f"{size_text(free)} free")


def probe_disk(environment: Environment) -> Iterator[Finding]:
    host = environment.host
    text = f"{host.folder}, {size_text(host.disk_free)} free"
    if not host.folder_writable:
        yield fail(
            "disk", f"{host.folder} cannot be written: runs go there", "change the folder, or name one with --out"
        )
    elif host.disk_free < _LEAST_DISK:
        yield warn("disk", f"{text}: little for runs and checkpoints", "make room, or name another folder with --out")
    else:
        yield ok("disk", text)


def probe_terminal(environment: Environment) -> Iterator[Finding]:
    host = environment.host
    color = "with color" if host.color else "without color"
    if host.encoding.lower().replace("-", "") != "utf8":
        message = f"its encoding is {host.encoding}: pictures of schedules need UTF-8"
        yield warn("terminal", message, "export PYTHONUTF8=1")
    elif not host.is_terminal:
        yield ok("terminal", f"none; texts have {host.columns} columns")
    elif host.columns < _LEAST_COLUMNS:
        yield warn("terminal", f"{host.columns} columns, {color}: pictures of schedules are cut", "make it wider")
    else:
        yield ok("terminal", f"{host.columns} columns, {color}")

"""Cores, memory, disks and terminal of this machine, and the limits of the container that it may be in."""

from __future__ import annotations

import os
import resource
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

from asyncpipe.tools.doctor.environment import Host, Processor

__all__ = ["gather_host", "gather_processor", "memory_available", "memory_limit", "time_quota"]

_ROOT = Path("/")
_NO_LIMIT = 2**60
"""Version 1 of cgroups writes a huge number."""


def gather_processor() -> Processor:
    cores = os.cpu_count() or 1
    allowed = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else range(cores)
    return Processor(cores, tuple(sorted(allowed)), time_quota(_ROOT))


def gather_host() -> Host:
    limit = resource.getrlimit(resource.RLIMIT_AS)[0]
    shared = Path("/dev/shm")
    folder = os.getcwd()
    return Host(
        memory_available=memory_available(_ROOT),
        memory_limit=memory_limit(_ROOT),
        address_space_limit=None if limit == resource.RLIM_INFINITY else limit,
        shared_memory_free=shutil.disk_usage(shared).free if shared.is_dir() else None,
        folder=folder,
        folder_writable=os.access(folder, os.W_OK | os.X_OK),
        disk_free=shutil.disk_usage(folder).free,
        columns=shutil.get_terminal_size().columns,
        is_terminal=sys.stdout.isatty(),
        color=sys.stdout.isatty() and not os.environ.get("NO_COLOR"),
        encoding=getattr(sys.stdout, "encoding", None) or "utf-8",
    )


def memory_available(root: Path) -> int | None:
    """MemAvailable of /proc/meminfo below `root`, in bytes."""
    for line in _read(root / "proc/meminfo").splitlines():
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) * 1024
    return None


def memory_limit(root: Path) -> int | None:
    """The least of the limits of this process's cgroup and of those around it, in bytes."""
    texts = [*_files(root, "", "memory.max"), *_files(root, "memory", "memory.limit_in_bytes")]
    limits = [int(text) for text in texts if text.isdigit()]
    return min((limit for limit in limits if limit < _NO_LIMIT), default=None)


def time_quota(root: Path) -> float | None:
    """How many cores' time the cgroups allow: the least quota / period of all."""
    pairs = [text.split() for text in _files(root, "", "cpu.max")]
    quotas = _files(root, "cpu", "cpu.cfs_quota_us")
    pairs += [list(pair) for pair in zip(quotas, _files(root, "cpu", "cpu.cfs_period_us"), strict=False)]
    return min((int(pair[0]) / int(pair[1]) for pair in pairs if len(pair) == 2 and pair[0].isdigit()), default=None)


def _files(root: Path, controller: str, name: str) -> Iterator[str]:
    """The contents of a file in the cgroup of this process and in each around it; controller "" is version 2."""
    for line in _read(root / "proc/self/cgroup").splitlines():
        _, controllers, path = line.split(":", 2)
        if controller in controllers.split(","):
            mounted = root / "sys/fs/cgroup" / controller
            group = mounted / path.lstrip("/")
            while group.is_relative_to(mounted):
                if text := _read(group / name).strip():
                    yield text
                group = group.parent


def _read(path: Path) -> str:
    """The text of a file; nothing where there is none, or it may not be read."""
    try:
        return path.read_text()
    except OSError:
        return ""

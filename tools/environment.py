"""What a result was measured on: versions, processor, memory, GPUs and commit, as plain JSON values."""

from __future__ import annotations

import os
import platform
import subprocess
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path

__all__ = ["describe_cpu", "describe_environment"]


def describe_environment() -> dict[str, object]:
    """Describe interpreter, machine, libraries and checkout; sizes in bytes, no host or user name.

    `torch` and `cuda` are None where torch cannot be imported, `git` is None outside a checkout.
    """
    return {
        "time_utc": datetime.now(UTC).isoformat(timespec="seconds"),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "versions": {name: _version(name) for name in ("asyncpipe", "torch", "numpy", "triton")},
        "cpu": describe_cpu(),
        "memory_bytes": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        "torch": _describe_torch(),
        "cuda": _describe_cuda(),
        "git": _describe_checkout(Path(__file__).absolute().parents[2]),
    }


def _version(distribution: str) -> str | None:
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return None


def describe_cpu() -> dict[str, object]:
    return {
        "model": _cpu_model(Path("/proc/cpuinfo")),
        "count": os.cpu_count(),
        "usable": len(os.sched_getaffinity(0)),
    }


def _cpu_model(cpuinfo: Path) -> str:
    """Return the processor's name; ARM kernels list none, so there the architecture must do."""
    try:
        lines = cpuinfo.read_text().splitlines()
    except OSError:
        lines = []
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.machine())


def _describe_torch() -> dict[str, object] | None:
    try:
        import torch
    except ImportError:
        return None
    return {
        "debug": torch.version.debug,
        "cuda_build": torch.version.cuda,
        "cpu_capability": torch.backends.cpu.get_cpu_capability(),
        "mkl": torch.backends.mkl.is_available(),
        "onednn": torch.backends.mkldnn.is_available(),
        "openmp": torch.backends.openmp.is_available(),
        "intra_op_threads": torch.get_num_threads(),
        "inter_op_threads": torch.get_num_interop_threads(),
    }


def _describe_cuda() -> dict[str, object] | None:
    try:
        import torch
    except ImportError:
        return None
    available = torch.cuda.is_available()
    return {
        "available": available,
        "devices": [_describe_device(i) for i in range(torch.cuda.device_count())] if available else [],
    }


def _describe_device(index: int) -> dict[str, object]:
    import torch

    properties = torch.cuda.get_device_properties(index)
    return {
        "name": properties.name,
        "memory_bytes": properties.total_memory,
        "capability": f"{properties.major}.{properties.minor}",
        "multiprocessors": properties.multi_processor_count,
    }


def _describe_checkout(root: Path) -> dict[str, object] | None:
    """Return commit and cleanliness of the repository whose top folder is `root`.

    A package installed somewhere below another project's repository must not report that one's commit.
    """
    top = _git(root, "rev-parse", "--show-toplevel")
    commit = _git(root, "rev-parse", "HEAD")
    if top is None or commit is None or Path(top).resolve() != root.resolve():
        return None
    return {"commit": commit, "dirty": bool(_git(root, "status", "--porcelain", "--untracked-files=no"))}


def _git(root: Path, *arguments: str) -> str | None:
    try:
        done = subprocess.run(["git", "-C", root, *arguments], capture_output=True, text=True, check=False)
    except OSError:
        return None
    return done.stdout.strip() if done.returncode == 0 else None

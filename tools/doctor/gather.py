"""Asks this machine for the facts. Nothing here judges, and nothing that fails ends the report."""

from __future__ import annotations

import os
import platform
import shutil
import sys
import sysconfig
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path

from asyncpipe.tools.doctor.environment import Environment, Gpu
from asyncpipe.tools.doctor.gather_host import gather_host, gather_processor
from asyncpipe.tools.doctor.gather_installation import gather_installation
from asyncpipe.tools.doctor.gather_torch import gather_torch
from asyncpipe.tools.doctor.versions import LISTED
from asyncpipe.tools.nvml import GpuProcess, Reading, Unavailable, open_nvml

__all__ = ["can_write", "gather_environment", "kernel_cache", "loaded_libraries"]

_SHOWN = ("CUDA_", "OMP_", "MKL_", "KMP_", "GOMP_", "TRITON_", "PYTORCH_", "LD_LIBRARY_PATH")
"""Variables whose values matter; no others are looked at, since some hold secrets."""
_SIGNS_OF_A_GPU = ("/dev/nvidiactl", "/usr/lib/wsl/lib/libcuda.so.1")


def gather_environment(data: Mapping[str, str]) -> Environment:
    """Everything about this machine and process; `data` are folders of data sets by name."""
    others = gather_processes()  # before CUDA starts: in a container this process would find itself
    torch = gather_torch()  # then the libraries are loaded that are listed below, and CUDA tells the order of its GPUs
    nvml, gpus = gather_gpus(others)
    cache = kernel_cache(os.environ)
    return Environment(
        python=sys.version_info[:3],
        platform=f"{platform.system()} {platform.release()} {platform.machine()}",
        versions={name: version_of(name) for name in LISTED},
        variables={name: value for name, value in os.environ.items() if name.startswith(_SHOWN)},
        torch=torch,
        nvml=nvml,
        gpus=gpus,
        has_nvidia_device=any(map(os.path.exists, _SIGNS_OF_A_GPU)),
        libraries=loaded_libraries(Path("/proc/self/maps")),
        compiler=c_compiler(os.environ),
        python_headers=Path(sysconfig.get_path("include"), "Python.h").exists(),
        kernel_cache=str(cache),
        kernel_cache_writable=can_write(cache),
        processor=gather_processor(),
        host=gather_host(),
        installation=gather_installation(data),
    )


def kernel_cache(variables: Mapping[str, str]) -> Path:
    """Where Triton keeps compiled kernels."""
    home = variables.get("TRITON_HOME") or os.path.expanduser("~")
    return Path(variables.get("TRITON_CACHE_DIR") or Path(home, ".triton", "cache"))


def c_compiler(variables: Mapping[str, str]) -> str | None:
    """The one that Triton takes."""
    named = variables.get("CC", "").split()[:1] or ["gcc", "clang", "cc"]
    return next(filter(None, map(shutil.which, named)), None)


def gather_processes() -> dict[Reading[str], Reading[tuple[GpuProcess, ...]]]:
    """Who computes on each GPU, by UUID."""
    with open_nvml() as nvml:
        return {gpu.description.uuid: gpu.other_processes() for gpu in nvml.gpus}


def gather_gpus(
    others: Mapping[Reading[str], Reading[tuple[GpuProcess, ...]]],
) -> tuple[Unavailable | None, tuple[Gpu, ...]]:
    """The devices that CUDA sees, by NVML; or why there is no NVML."""
    with open_nvml() as nvml:
        known = [(gpu.description, gpu.read().throttle_reasons) for gpu in nvml.gpus]
        return nvml.missing, tuple(Gpu(each, others.get(each.uuid, ()), reasons) for each, reasons in known)


def version_of(distribution: str) -> str | None:
    """The installed version."""
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return None


def loaded_libraries(maps: Path) -> tuple[str, ...]:
    """The files of the shared libraries of this process; none where the system does not tell."""
    try:
        lines = maps.read_text("utf-8", "surrogateescape").splitlines()
    except OSError:
        return ()
    paths = {os.path.realpath(line.split(maxsplit=5)[5]) for line in lines if ".so" in line and "/" in line}
    return tuple(sorted(paths))


def can_write(path: Path) -> bool:
    """Whether the folder can be written, or made."""
    there = next((folder for folder in (path, *path.parents) if os.path.exists(folder)), path)
    return os.access(there, os.W_OK | os.X_OK)

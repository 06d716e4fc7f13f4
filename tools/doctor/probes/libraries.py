"""Python, the libraries and whether they fit, torch's build, and libraries that were loaded twice."""

from __future__ import annotations

import os
import re
from collections import defaultdict
from collections.abc import Iterator

from asyncpipe.tools.doctor.environment import Environment
from asyncpipe.tools.doctor.finding import Finding, fail, ok, warn
from asyncpipe.tools.doctor.versions import LISTED, NEEDED, OPTIONAL, at_least
from asyncpipe.tools.nvml import Unavailable

__all__ = ["probe_copies", "probe_libraries", "probe_python", "probe_torch"]

_OLDEST_PYTHON = (3, 11, 0)
_WATCHED = re.compile(
    r"lib(cudart|cublas|cublasLt|cudnn\w*|nccl|nvrtc|cupti|cufft|curand|cusolver|cusparse|cuda|nvidia-ml|g?omp|iomp5)"
    r"(-[0-9a-f]+)?\.so"
)
_OPENMP = {"gomp", "omp", "iomp5"}


def probe_python(environment: Environment) -> Iterator[Finding]:
    text = f"{'.'.join(map(str, environment.python))} on {environment.platform}"
    if environment.python < _OLDEST_PYTHON:
        yield fail("python", f"{text}; asyncpipe needs 3.11 or later", "make an environment with a newer Python")
    else:
        yield ok("python", text)


def probe_libraries(environment: Environment) -> Iterator[Finding]:
    versions = environment.versions
    yield ok("libraries", ", ".join(f"{name} {versions[name]}" for name in NEEDED if versions.get(name)))
    others = ", ".join(f"{name} {versions.get(name) or 'not installed'}" for name in LISTED if name not in NEEDED)
    yield ok("optional", others)
    for name, least in {**NEEDED, **OPTIONAL}.items():
        version = versions.get(name)
        if version is None:
            if name in NEEDED:
                yield fail("libraries", f"{name} is not installed", f"pip install '{name}>={least}'")
        elif not at_least(version, least):
            problem = fail if name in NEEDED else warn
            yield problem("libraries", f"{name} {version} is older than {least}", f"pip install '{name}>={least}'")


def probe_torch(environment: Environment) -> Iterator[Finding]:
    torch = environment.torch
    if isinstance(torch, Unavailable):
        yield fail("torch", f"cannot be imported: {torch.reason}", "pip install --force-reinstall torch")
    elif torch.devices:
        yield ok("torch", f"{torch.version}, built for CUDA {torch.cuda}")
    elif torch.cuda is None and environment.has_nvidia_device:
        yield warn(
            "torch", f"{torch.version} is a CPU build, but there is an NVIDIA GPU", "install torch as pytorch.org says"
        )
    elif torch.cuda is None:
        yield ok("torch", f"{torch.version}, a CPU build; back ends serial and threads")
    elif environment.has_nvidia_device and "CUDA_VISIBLE_DEVICES" in environment.variables:
        hidden = environment.variables["CUDA_VISIBLE_DEVICES"]
        yield warn("torch", f"CUDA_VISIBLE_DEVICES={hidden} leaves it no GPU", "unset CUDA_VISIBLE_DEVICES")
    elif environment.has_nvidia_device:
        fix = "run nvidia-smi: if it fails too, reinstall the driver"
        yield fail("torch", f"{torch.version} cannot use the GPU: {torch.cuda_problem}", fix)
    else:
        yield ok("torch", f"{torch.version}, built for CUDA {torch.cuda}; no GPU here: back ends serial and threads")


def probe_copies(environment: Environment) -> Iterator[Finding]:
    """Two copies of a library keep two states: of CUDA they crash, of OpenMP each starts threads for every core."""
    places: dict[str, set[str]] = defaultdict(set)
    for path in environment.libraries:
        if match := _WATCHED.match(os.path.basename(path)):
            places["OpenMP" if match[1] in _OPENMP else f"lib{match[1]}"].add(path)
    twice = {name: sorted(paths) for name, paths in places.items() if len(paths) > 1}
    has_path = "LD_LIBRARY_PATH" in environment.variables
    for name, paths in sorted(twice.items()):
        if name == "OpenMP":
            yield warn(
                "loaded twice", f"{name}: {', '.join(paths)}", "set OMP_NUM_THREADS, or use one source of packages"
            )
        else:
            fix = "unset LD_LIBRARY_PATH" if has_path else "uninstall one of the packages that bring it"
            yield fail("loaded twice", f"{name}: {', '.join(paths)}", fix)
    if not twice:
        yield ok("loaded twice", "no library")

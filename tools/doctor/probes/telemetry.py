"""What can be read of GPUs, and done with their driver, from Python: NVML, GPM, cuda-bindings."""

from __future__ import annotations

from collections.abc import Iterator

from asyncpipe.tools.doctor.environment import Environment
from asyncpipe.tools.doctor.finding import Finding, ok, warn
from asyncpipe.tools.doctor.versions import at_least
from asyncpipe.tools.nvml import Unavailable

__all__ = ["probe_bindings", "probe_nvml"]

_GRAPH_NAMES, _SHARES = "13.1", "12.4"
"""The versions of cuda-bindings that bring names into graphs, and green contexts."""


def probe_nvml(environment: Environment) -> Iterator[Finding]:
    if environment.nvml is not None:
        yield from _without_nvml(environment, environment.nvml.reason)
        return
    answering = ", ".join(f"cuda:{gpu.description.ordinal}" for gpu in environment.gpus) or "no GPU"
    yield ok("nvml", f"answers for {answering}")
    for gpu in environment.gpus:
        gpm, device = gpu.description.gpm, f"cuda:{gpu.description.ordinal}"
        if gpm is True:
            yield ok("gpm", f"{device}: activity of SMs, tensor cores and memory")
        else:
            reason = gpm.reason if isinstance(gpm, Unavailable) else "not supported before Hopper"
            yield warn("gpm", f"{device}: {reason}; activity of SMs and tensor cores unknown, `tune` is not affected")


def _without_nvml(environment: Environment, reason: str) -> Iterator[Finding]:
    """On a machine without a GPU there is nothing to read."""
    if not environment.devices and not environment.has_nvidia_device:
        yield ok("nvml", f"nothing to read: {reason}")
        return
    missing = environment.versions.get("nvidia-ml-py") is None
    fix = "pip install nvidia-ml-py" if missing else "run nvidia-smi, which uses the same library"
    yield warn("nvml", f"{reason}: use, power and throttling of the GPU are unknown", fix)


def probe_bindings(environment: Environment) -> Iterator[Finding]:
    """Without this package torch writes no names of operations into a graph, and does not say so."""
    if not environment.devices:
        return
    version = environment.versions.get("cuda-bindings")
    drivers = [gpu.description.cuda_version for gpu in environment.gpus]
    old = [driver for driver in drivers if isinstance(driver, str) and not at_least(driver, _GRAPH_NAMES)]
    if version is None or not at_least(version, _GRAPH_NAMES):
        found = "not installed" if version is None else f"{version} is older than {_GRAPH_NAMES}"
        shares = "" if version is not None and at_least(version, _SHARES) else "no streams with `sms`, and "
        message = f"{found}: {shares}no names of operations inside CUDA graphs in profiles"
        yield warn("cuda-bindings", message, f"pip install 'cuda-bindings>={_GRAPH_NAMES}'")
    elif old:
        message = f"{version}, but the driver's CUDA {old[0]} is older than {_GRAPH_NAMES}: no names in CUDA graphs"
        yield warn("cuda-bindings", message, "install a newer driver")
    else:
        yield ok("cuda-bindings", version)

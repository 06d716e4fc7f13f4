"""GPUs: driver against torch's CUDA, each device, what they can copy to each other, and variables that slow them."""

from __future__ import annotations

import re
from collections.abc import Iterator

from asyncpipe.tools.doctor.environment import CudaDevice, Environment, Gpu, Torch
from asyncpipe.tools.doctor.finding import Finding, fail, ok, warn
from asyncpipe.tools.doctor.sizes import size_text
from asyncpipe.tools.doctor.versions import numbers
from asyncpipe.tools.nvml import Unavailable, available
from asyncpipe.tools.nvml.throttling import is_slowdown

__all__ = ["probe_driver", "probe_gpus", "probe_peers", "probe_settings"]

_SETTINGS = {
    ("CUDA_LAUNCH_BLOCKING", "1"): "the host waits for every kernel, so that streams never overlap",
    ("CUDA_DEVICE_MAX_CONNECTIONS", "1"): "all streams share one queue of the GPU, and wait for each other",
    ("PYTORCH_NO_CUDA_MEMORY_CACHING", "1"): "every allocation waits for the GPU",
    ("TRITON_INTERPRET", "1"): "fused kernels run in Python",
}


def probe_driver(environment: Environment) -> Iterator[Finding]:
    """A driver runs programs built for its own CUDA version, and for any older major one."""
    torch = environment.torch
    if not environment.gpus:
        asked = environment.has_nvidia_device and environment.versions.get("nvidia-ml-py") is not None
        if asked and environment.nvml is not None:
            yield fail("driver", f"does not answer: {environment.nvml.reason}", "run nvidia-smi; reinstall the driver")
        return
    known = environment.gpus[0].description
    version, cuda = known.driver_version, known.cuda_version
    built = None if isinstance(torch, Unavailable) else torch.cuda
    if isinstance(cuda, Unavailable) or built is None:
        yield ok("driver", f"{version}, CUDA {cuda}")
    elif numbers(cuda)[0] < numbers(built)[0]:
        fix = f"install a driver for CUDA {numbers(built)[0]}, or torch built for CUDA {numbers(cuda)[0]}"
        yield fail("driver", f"{version} runs CUDA up to {cuda}, torch was built for {built}", fix)
    else:
        yield ok("driver", f"{version} runs CUDA {cuda}, torch was built for {built}")


def probe_gpus(environment: Environment) -> Iterator[Finding]:
    if not environment.devices and not environment.gpus:
        yield ok("gpu", "none")
    for ordinal, device in enumerate(environment.devices):
        yield from _device(f"cuda:{ordinal}", device, environment.torch)
    for gpu in environment.gpus:
        subject = f"cuda:{gpu.description.ordinal}"
        if not environment.devices:
            yield ok(subject, f"{gpu.description.name}, which this torch does not use")
        yield from _modes(subject, gpu)


def _device(subject: str, device: CudaDevice, torch: Torch | Unavailable) -> Iterator[Finding]:
    capability = "{}.{}".format(*device.capability)
    text = f"{device.name}, capability {capability}, {size_text(device.memory_bytes)}"
    architectures = () if isinstance(torch, Unavailable) else torch.architectures
    if not any(_runs(architecture, device.capability) for architecture in architectures):
        known = ", ".join(architectures) or "nothing"
        yield fail(subject, f"{text}: torch has kernels for {known}", "install a torch that was built for this GPU")
    else:
        yield ok(subject, text)


def _runs(architecture: str, capability: tuple[int, int]) -> bool:
    """sm_86 runs on 8.6 to 8.9, sm_90a on 9.0 alone; compute_90 is compiled for 9.0 and all later ones."""
    match = re.fullmatch(r"(sm|compute)_(\d+)(\d)([af]?)", architecture)
    if match is None:
        return False
    built = int(match[2]), int(match[3])
    if match[4] == "a":
        return built == capability
    return built <= capability and (match[1] == "compute" or built[0] == capability[0])


def _modes(subject: str, gpu: Gpu) -> Iterator[Finding]:
    known = gpu.description
    if known.compute_mode == "prohibited":
        yield fail(subject, "compute mode prohibited: no program may use it", "sudo nvidia-smi -c DEFAULT")
    elif known.compute_mode in ("exclusive process", "exclusive thread"):
        message = f"compute mode {known.compute_mode}: one program at a time, no trial of `tune` beside another"
        yield warn(subject, message, "sudo nvidia-smi -c DEFAULT")
    if known.persistence_mode is False:
        message = "persistence mode is off: each program waits for the driver to load"
        yield warn(subject, message, "sudo nvidia-smi -pm 1")
    if known.mig_mode is True:
        message = "MIG is on: a part of the GPU, whose clocks and power are shared, and without NVML's utilization"
        yield warn(subject, message, "leave it where that is meant")
    others = available(gpu.other_processes) or ()
    if others:
        pids = ", ".join(str(process.pid) for process in others)
        yield warn(subject, f"other processes compute on it: {pids}", "measure when they have ended")
    slow = [reason for reason in available(gpu.throttle_reasons) or () if is_slowdown(reason)]
    if slow:
        yield warn(subject, f"its clocks are slowed now: {', '.join(slow)}", "look at cooling and power supply")


def probe_peers(environment: Environment) -> Iterator[Finding]:
    torch = environment.torch
    if isinstance(torch, Unavailable) or len(torch.devices) < 2:
        return
    if torch.without_peer_access:
        pairs = ", ".join(f"cuda:{a} and cuda:{b}" for a, b in torch.without_peer_access)
        message = f"no peer access between {pairs}: transfers between them go by way of the host"
        yield warn("peer access", message, "choose devices that nvidia-smi topo -m joins")
    else:
        yield ok("peer access", "between all devices")


def probe_settings(environment: Environment) -> Iterator[Finding]:
    """Variables that make a GPU slow; without a GPU they do nothing."""
    if not environment.devices:
        return
    for (name, value), effect in _SETTINGS.items():
        if environment.variables.get(name) == value:
            yield warn("settings", f"{name}={value}: {effect}", f"unset {name}")

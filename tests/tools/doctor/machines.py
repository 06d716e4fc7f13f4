"""Machines written down: one with a CPU, one with two Hopper GPUs, to be changed by a test."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from asyncpipe.tools.doctor import Environment, examine, report_lines
from asyncpipe.tools.doctor.environment import CudaDevice, Gpu, Host, Installation, Processor, Torch
from asyncpipe.tools.nvml import Unavailable
from tests.tools.nvml.fake_pynvml import FakeGpu, FakePynvml, hopper
from tests.tools.nvml.looks import connect

__all__ = ["cpu_machine", "gpu_machine", "nvml_sees", "report"]

GIB = 2**30
VERSIONS = {
    "torch": "2.13.0+cpu",
    "numpy": "2.4.6",
    "click": "8.5.1",
    "ruamel.yaml": "0.19.1",
    "rich": "15.0.0",
    "triton": "3.9.0",
    "nvidia-ml-py": None,
    "pillow": None,
    "cuda-bindings": None,
}
HOST = Host(
    memory_available=20 * GIB,
    memory_limit=None,
    address_space_limit=None,
    shared_memory_free=8 * GIB,
    folder="/srv/study",
    folder_writable=True,
    disk_free=50 * GIB,
    columns=100,
    is_terminal=True,
    color=True,
    encoding="utf-8",
)
INSTALLATION = Installation(
    version="0.1.0",
    folder="/venv/asyncpipe",
    schedules=42,
    jobs=17,
    data={"digits": "", "fashion-mnist": "data fashion-mnist needs its files"},
)


def cpu_machine(**changed: Any) -> Environment:
    """Two cores, no GPU, nothing wrong."""
    usual: dict[str, Any] = {
        "python": (3, 11, 7),
        "platform": "Linux 6.1 x86_64",
        "versions": VERSIONS,
        "variables": {},
        "torch": Torch("2.13.0+cpu", None, 2),
        "nvml": Unavailable("nvidia-ml-py is not installed"),
        "gpus": (),
        "has_nvidia_device": False,
        "libraries": ("/venv/torch/lib/libgomp.so.1", "/venv/torch/lib/libtorch_cpu.so"),
        "compiler": "/usr/bin/gcc",
        "python_headers": True,
        "kernel_cache": "/srv/kernels",
        "kernel_cache_writable": True,
        "processor": Processor(2, (0, 1)),
        "host": HOST,
        "installation": INSTALLATION,
    }
    return Environment(**{**usual, **changed})


def gpu_machine(*gpus: FakeGpu, **changed: Any) -> Environment:
    """Two Hopper GPUs, read by our own driver, and nothing wrong."""
    seen = nvml_sees(*(gpus or (hopper("GPU-a"), hopper("GPU-b"))))
    devices = tuple(CudaDevice("NVIDIA H100", (9, 0), 80 * GIB) for _ in seen)
    torch = Torch("2.13.0+cu130", "13.0", 2, "", devices, ("sm_80", "sm_90", "sm_100", "compute_120"), (), "3.9.0")
    machine = cpu_machine(
        versions={**VERSIONS, "torch": "2.13.0+cu130", "nvidia-ml-py": "13.615.71", "cuda-bindings": "13.1.0"},
        torch=torch,
        nvml=None,
        gpus=seen,
        has_nvidia_device=True,
    )
    return replace(machine, **changed)


def nvml_sees(*gpus: FakeGpu) -> tuple[Gpu, ...]:
    """As the doctor reads them."""
    with connect(FakePynvml(*gpus)) as nvml:
        return tuple(Gpu(gpu.description, gpu.other_processes(), gpu.read().throttle_reasons) for gpu in nvml.gpus)


def report(machine: Environment) -> str:
    """The whole text."""
    return "\n".join(report_lines(examine(machine)))

"""The facts about a machine that the probes judge: gathered once, plain values, so that a test can write them down."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from asyncpipe.tools.nvml import GpuDescription, GpuProcess, Reading, Unavailable

__all__ = ["CudaDevice", "Environment", "Gpu", "Host", "Installation", "Processor", "Torch"]


@dataclass(frozen=True)
class CudaDevice:
    """A device as torch sees it; `capability` is (9, 0) for Hopper."""

    name: str
    capability: tuple[int, int]
    memory_bytes: int


@dataclass(frozen=True)
class Torch:
    """What `import torch` says. `cuda` is the version it was built for, None for a CPU build.

    `cuda_problem` is what torch said where it finds no GPU. `architectures` are those that it has kernels for
    (sm_90, compute_90). `without_peer_access` are pairs of devices that copy by way of the host.
    `triton_needed` is the version its own metadata asks for.
    """

    version: str
    cuda: str | None
    intra_op_threads: int
    cuda_problem: str = ""
    devices: tuple[CudaDevice, ...] = ()
    architectures: tuple[str, ...] = ()
    without_peer_access: tuple[tuple[int, int], ...] = ()
    triton_needed: str | None = None


@dataclass(frozen=True)
class Gpu:
    """A device as NVML sees it, and who else computes on it."""

    description: GpuDescription
    other_processes: Reading[tuple[GpuProcess, ...]] = ()
    throttle_reasons: Reading[tuple[str, ...]] = ()


@dataclass(frozen=True)
class Processor:
    """Cores of the machine, the numbers of those that this process may run on, and the time that a container's limit
    allows (in cores).
    """

    cores: int
    numbers: tuple[int, ...]
    quota: float | None = None

    @property
    def allowed(self) -> int:
        return len(self.numbers)

    @property
    def usable(self) -> int:
        """How many run at once, on average."""
        return self.allowed if self.quota is None else max(1, min(self.allowed, int(self.quota)))


@dataclass(frozen=True)
class Host:
    """Memory, disks and the terminal; sizes in bytes, None where there is no limit or no such thing."""

    memory_available: int | None
    memory_limit: int | None
    address_space_limit: int | None
    shared_memory_free: int | None
    folder: str
    folder_writable: bool
    disk_free: int
    columns: int
    is_terminal: bool
    color: bool
    encoding: str


@dataclass(frozen=True)
class Installation:
    """asyncpipe itself and what it finds.

    `data` says of each data set why it is not there, empty where it is; `data_asked` are those that the user named.
    """

    version: str
    folder: str
    schedules: int
    jobs: int
    problem: str = ""
    data: Mapping[str, str] = field(default_factory=dict)
    data_asked: tuple[str, ...] = ()


@dataclass(frozen=True)
class Environment:
    """A whole machine. `versions` of distributions, None where one is not installed; `variables` are the environment.

    `torch` is why it cannot be imported, where it cannot. `libraries` are the paths of the shared libraries that this
    process has loaded. `compiler` is a C compiler, `python_headers` whether a C program could include Python.h.
    """

    python: tuple[int, int, int]
    platform: str
    versions: Mapping[str, str | None]
    variables: Mapping[str, str]
    torch: Torch | Unavailable
    nvml: Unavailable | None
    gpus: tuple[Gpu, ...]
    has_nvidia_device: bool
    libraries: tuple[str, ...]
    compiler: str | None
    python_headers: bool
    kernel_cache: str
    kernel_cache_writable: bool
    processor: Processor
    host: Host
    installation: Installation

    @property
    def devices(self) -> tuple[CudaDevice, ...]:
        """The GPUs that torch can use."""
        return () if isinstance(self.torch, Unavailable) else self.torch.devices

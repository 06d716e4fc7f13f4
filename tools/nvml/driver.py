"""NVML through nvidia-ml-py, imported on first use: the devices that CUDA sees, each read without raising."""

from __future__ import annotations

import importlib
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cached_property
from types import TracebackType
from typing import Any, Self

from asyncpipe.tools.nvml.calls import Attempt, Calls, reason_of
from asyncpipe.tools.nvml.gpm import GpmMeter
from asyncpipe.tools.nvml.interface import Gpu, MissingGpu, MissingNvml, Nvml
from asyncpipe.tools.nvml.ordinals import ListedGpu, uuids_from_cuda, uuids_from_environment
from asyncpipe.tools.nvml.questions import DESCRIPTION, SNAPSHOT, answers
from asyncpipe.tools.nvml.readings import GpuDescription, GpuProcess, GpuSnapshot, Reading, Unavailable

__all__ = ["NvmlGpu", "open_nvml"]


def open_nvml(
    uuids: Sequence[str] | None = None,
    *,
    pynvml: Any = None,
    environment: Mapping[str, str] = os.environ,
    clock: Callable[[], float] = time.perf_counter,
) -> Nvml:
    """Connect to NVML; never raises.

    `uuids` are those of CUDA's devices in CUDA's order. Without them torch tells, if it has started CUDA in this
    process, else CUDA's environment variables. `pynvml` is a stand-in for the module of nvidia-ml-py, in tests.
    """
    try:
        nvml = pynvml or importlib.import_module("pynvml")
    except ImportError:
        return MissingNvml("nvidia-ml-py is not installed")
    try:
        nvml.nvmlInit()
        return _Connection(nvml, uuids or uuids_from_cuda(), environment, clock)
    except Exception as error:  # another module called pynvml, say: what only watches must not stop a run
        if isinstance(error, getattr(nvml, "NVMLError", ())):
            return MissingNvml(reason_of(error).reason)
        return MissingNvml(f"nvidia-ml-py does not work: {type(error).__name__}: {error}")


class _Connection:
    """NVML between nvmlInit and nvmlShutdown."""

    def __init__(
        self, nvml: Any, uuids: Sequence[str] | None, environment: Mapping[str, str], clock: Callable[[], float]
    ) -> None:
        self.missing = None
        self._nvml = nvml
        listed = _list_gpus(nvml)
        ordered = uuids_from_environment(listed, environment)
        if uuids is not None and not any(gpu.instances for gpu in listed):
            ordered = list(uuids)
        self.gpus: Sequence[Gpu] = [self._open(ordinal, uuid, clock) for ordinal, uuid in enumerate(ordered)]

    def gpu(self, ordinal: int) -> Gpu:
        if ordinal < len(self.gpus):
            return self.gpus[ordinal]
        count = f"{len(self.gpus)} GPU{'' if len(self.gpus) == 1 else 's'}"
        return MissingGpu(ordinal, Unavailable(f"CUDA sees {count}, hence no cuda:{ordinal}"))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        for gpu in self.gpus:
            if isinstance(gpu, NvmlGpu):
                gpu.close()
        Calls(self._nvml).attempt(lambda nvml: nvml.nvmlShutdown())

    def _open(self, ordinal: int, uuid: Reading[str], clock: Callable[[], float]) -> Gpu:
        if isinstance(uuid, Unavailable):
            return MissingGpu(ordinal, uuid)
        calls = Calls(self._nvml)
        found = calls.ask("handle", [_by_uuid(name) for name in (uuid, f"GPU-{uuid}", f"MIG-{uuid}")])
        if isinstance(found, Unavailable):
            return MissingGpu(ordinal, Unavailable(f"NVML knows no GPU {uuid}: {found.reason}"))
        return NvmlGpu(self._nvml, ordinal, found, clock)


class NvmlGpu:
    """A GPU, or a MIG instance of one, whose handle NVML gave."""

    def __init__(self, nvml: Any, ordinal: int, handle: Any, clock: Callable[[], float]) -> None:
        self._calls = Calls(nvml)
        self._ordinal, self._handle, self._clock = ordinal, handle, clock
        whole = self._calls.ask("whole", [lambda nvml: nvml.nvmlDeviceGetDeviceHandleFromMigDeviceHandle(handle)])
        self._is_instance = not isinstance(whole, Unavailable)
        self._whole = whole if self._is_instance else handle
        self._gpm = GpmMeter(self._calls, self._whole, self._sample_gpm, clock)

    @cached_property
    def description(self) -> GpuDescription:
        found = answers(self._calls, DESCRIPTION, self._handle, self._whole)
        return GpuDescription(
            **found, ordinal=self._ordinal, is_mig_instance=self._is_instance, gpm=self._gpm.supported
        )

    @property
    def is_lost(self) -> bool:
        return self._calls.lost is not None

    def read(self) -> GpuSnapshot:
        found = answers(self._calls, SNAPSHOT, self._handle, self._whole)
        return GpuSnapshot(time=self._clock(), **found, **self._gpm.read())

    def other_processes(self) -> Reading[tuple[GpuProcess, ...]]:
        attempts: list[Attempt] = [
            lambda nvml: nvml.nvmlDeviceGetComputeRunningProcesses_v3(self._handle),
            lambda nvml: nvml.nvmlDeviceGetComputeRunningProcesses_v2(self._handle),
        ]
        found = self._calls.ask("processes", attempts)
        if isinstance(found, Unavailable):
            return found
        return tuple(GpuProcess(each.pid, _memory_of(each)) for each in found if each.pid != os.getpid())

    def close(self) -> None:
        """Free what GPM needed."""
        self._gpm.close()

    def _sample_gpm(self, nvml: Any, buffer: Any) -> Any:
        if not self._is_instance:
            return nvml.nvmlGpmSampleGet(self._whole, buffer)
        return nvml.nvmlGpmMigSampleGet(self._whole, nvml.nvmlDeviceGetGpuInstanceId(self._handle), buffer)


def _by_uuid(uuid: str) -> Attempt:
    """torch has UUIDs without the prefix that NVML's have."""
    return lambda nvml: nvml.nvmlDeviceGetHandleByUUID(uuid)


def _memory_of(process: Any) -> Reading[int]:
    """In bytes; not told in some containers and on Windows."""
    return Unavailable("the driver does not tell") if process.usedGpuMemory is None else process.usedGpuMemory


def _list_gpus(nvml: Any) -> list[ListedGpu]:
    """The GPUs by NVML's index; one that does not answer is left out, as CUDA does."""
    calls = Calls(nvml)
    count = calls.ask("count", [lambda nvml: nvml.nvmlDeviceGetCount()])
    found = [] if isinstance(count, Unavailable) else [_listed(nvml, index) for index in range(count)]
    return [gpu for gpu in found if gpu is not None]


def _listed(nvml: Any, index: int) -> ListedGpu | None:
    calls = Calls(nvml)
    handle = calls.ask("handle", [lambda nvml: nvml.nvmlDeviceGetHandleByIndex(index)])
    if isinstance(handle, Unavailable):
        return None
    uuid = calls.ask("uuid", [lambda nvml: nvml.nvmlDeviceGetUUID(handle)])
    name = calls.ask("name", [lambda nvml: nvml.nvmlDeviceGetName(handle)])
    if isinstance(uuid, Unavailable) or isinstance(name, Unavailable):
        return None
    return ListedGpu(uuid, name, tuple(_instances(calls, handle)))


def _instances(calls: Calls, handle: Any) -> Iterator[str]:
    """The UUIDs of the MIG instances of a GPU; none where MIG is off or unknown."""
    modes = calls.ask("mig", [lambda nvml: nvml.nvmlDeviceGetMigMode(handle)])
    if isinstance(modes, Unavailable) or not modes[0]:
        return
    slots = calls.ask("slots", [lambda nvml: nvml.nvmlDeviceGetMaxMigDeviceCount(handle)])
    for slot in range(0 if isinstance(slots, Unavailable) else slots):
        one = [lambda nvml, slot=slot: nvml.nvmlDeviceGetUUID(nvml.nvmlDeviceGetMigDeviceHandleByIndex(handle, slot))]
        uuid = calls.ask(("instance", slot), one)
        if not isinstance(uuid, Unavailable):
            yield uuid

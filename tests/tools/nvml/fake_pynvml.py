"""A stand-in for the module of nvidia-ml-py: the same functions over GPUs whose answers a test writes down.

Our real driver runs on it. An answer is a value, an `Error`, or `Turns`, one for each call. `calls` holds every call:
the name of the function, the UUID of the GPU, and the arguments after it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from types import SimpleNamespace
from typing import Any

__all__ = ["Call", "Error", "FakeGpu", "FakePynvml", "NVMLError", "Turns", "hopper", "without"]

INVALID_ARGUMENT, NOT_SUPPORTED, NO_PERMISSION, NOT_FOUND, FUNCTION_NOT_FOUND = 2, 3, 4, 6, 13
LIBRARY_NOT_FOUND, GPU_IS_LOST, UNKNOWN = 12, 15, 999
GIB = 2**30


class NVMLError(Exception):
    """As the original: `value` is NVML's return code."""

    def __init__(self, value: int) -> None:
        super().__init__(f"Error {value}")
        self.value = value


@dataclass(frozen=True)
class Error:
    """An answer that is raised."""

    value: int


class Turns:
    """An answer for each call in turn; the last one for all later calls."""

    def __init__(self, *answers: Any) -> None:
        self._answers = list(answers)

    def take(self) -> Any:
        return self._answers.pop(0) if len(self._answers) > 1 else self._answers[0]


@dataclass
class FakeGpu:
    """One GPU, or a MIG instance `of` one; `answers` by the names of NVML's functions after nvmlDeviceGet.

    `gains` are what each metric of GPM gains from one sample to the next, in per cent.
    """

    uuid: str
    name: str
    answers: dict[str, Any]
    gains: dict[int, Any] = field(default_factory=dict)
    instances: list[FakeGpu] = field(default_factory=list)
    of: FakeGpu | None = None
    is_lost: bool = False
    is_forbidden: bool = False
    counters: Counter[int] = field(default_factory=Counter)


def hopper(uuid: str, **answers: Any) -> FakeGpu:
    """A GPU at work that answers everything; `answers` replace some."""
    usual = {
        "UtilizationRates": SimpleNamespace(gpu=100, memory=40),
        "MemoryInfo": SimpleNamespace(used=30 * GIB, total=80 * GIB),
        "PowerUsage": 500_000,
        "TotalEnergyConsumption": Turns(*range(1_000_000, 4_000_000, 250_000)),
        "ClockInfo": 1980,
        "TemperatureV": 61,
        "CurrentClocksEventReasons": 0,
        "PciInfo": SimpleNamespace(busId=b"00000000:1B:00.0"),
        "CudaComputeCapability": (9, 0),
        "EnforcedPowerLimit": 700_000,
        "MaxClockInfo": 1980,
        "ComputeMode": 0,
        "PersistenceMode": 1,
        "MigMode": [0, 0],
        "MaxMigDeviceCount": 7,
        "ComputeRunningProcesses_v3": [],
        "GpmSupport": SimpleNamespace(isSupportedDevice=1),
    }
    return FakeGpu(uuid, "NVIDIA H100", {**usual, **answers}, {2: 70.0, 3: 35.0, 5: 45.0, 7: 40.0, 10: 20.0})


def without(gpu: FakeGpu, *names: str, value: int = NOT_SUPPORTED) -> FakeGpu:
    """The GPU, which refuses these."""
    gpu.answers.update(dict.fromkeys(names, Error(value)))
    return gpu


@dataclass(frozen=True)
class Call:
    """One call, as the module saw it."""

    function: str
    uuid: str
    arguments: int
    names: tuple[str, ...] = ()


class FakePynvml:
    """The module. `missing` are functions that this version of it lacks; `init` is what nvmlInit answers."""

    NVMLError = NVMLError
    NVML_CLOCK_SM, NVML_CLOCK_MEM = 1, 2
    NVML_TEMPERATURE_GPU = 0
    NVML_GPM_METRICS_GET_VERSION = 1
    NVML_GPM_METRIC_SM_UTIL = 2
    NVML_GPM_METRIC_SM_OCCUPANCY = 3
    NVML_GPM_METRIC_ANY_TENSOR_UTIL = 5
    NVML_GPM_METRIC_HMMA_TENSOR_UTIL = 7
    NVML_GPM_METRIC_DRAM_BW_UTIL = 10
    nvmlMemory_v2 = 0x02000028

    def __init__(self, *gpus: FakeGpu, init: Any = None, missing: tuple[str, ...] = ()) -> None:
        self.gpus, self.init, self.missing = gpus, init, missing
        self.calls: list[Call] = []
        self.connections = self.buffers = 0

    def __getattr__(self, name: str) -> Callable[..., Any]:
        """Everything that a GPU answers."""
        if name in self.missing or not name.startswith(("nvmlDeviceGet", "nvmlGpm", "nvmlSystem", "nvmlInit")):
            raise AttributeError(f"module 'pynvml' has no attribute {name!r}")
        return partial(self._call, name, getattr(type(self), f"_{name}", None))

    def asked(self, function: str) -> int:
        """How often it was called."""
        return sum(call.function == function for call in self.calls)

    def _call(self, name: str, special: Callable[..., Any] | None, *arguments: Any, **named: Any) -> Any:
        gpu = arguments[0] if arguments and isinstance(arguments[0], FakeGpu) else None
        self.calls.append(Call(name, gpu.uuid if gpu else "", len(arguments), tuple(named)))
        if gpu is not None and (gpu.is_lost or (gpu.of is not None and gpu.of.is_lost)):
            raise NVMLError(GPU_IS_LOST)
        if special is not None:
            return special(self, *arguments, **named)
        assert gpu is not None, name
        return self._answer(gpu, name.removeprefix("nvmlDeviceGet"))

    def _answer(self, gpu: FakeGpu, name: str) -> Any:
        answer = gpu.answers.get(name, Error(NOT_SUPPORTED))
        answer = answer.take() if isinstance(answer, Turns) else answer
        if isinstance(answer, Error):
            raise NVMLError(answer.value)
        return answer

    def _nvmlInit(self) -> None:
        if isinstance(self.init, Error):
            raise NVMLError(self.init.value)
        self.connections += 1

    def nvmlShutdown(self) -> None:
        self.connections -= 1

    def _nvmlSystemGetDriverVersion(self) -> str:
        return "580.95.05"

    def _nvmlSystemGetCudaDriverVersion_v2(self) -> int:
        return 13010

    def _nvmlDeviceGetCount(self) -> int:
        return len(self.gpus)

    def _nvmlDeviceGetHandleByIndex(self, index: int) -> FakeGpu:
        if self.gpus[index].is_forbidden:
            raise NVMLError(NO_PERMISSION)
        return self.gpus[index]

    def _nvmlDeviceGetHandleByUUID(self, uuid: str) -> FakeGpu:
        everything = [*self.gpus, *(instance for gpu in self.gpus for instance in gpu.instances)]
        found = [gpu for gpu in everything if gpu.uuid == uuid]
        if not found:
            raise NVMLError(NOT_FOUND)
        return found[0]

    def _nvmlDeviceGetDeviceHandleFromMigDeviceHandle(self, instance: FakeGpu) -> FakeGpu:
        if instance.of is None:
            raise NVMLError(INVALID_ARGUMENT)
        return instance.of

    def _nvmlDeviceGetMigDeviceHandleByIndex(self, gpu: FakeGpu, index: int) -> FakeGpu:
        if index >= len(gpu.instances):
            raise NVMLError(NOT_FOUND)
        return gpu.instances[index]

    def _nvmlDeviceGetGpuInstanceId(self, instance: FakeGpu) -> int:
        assert instance.of is not None
        return instance.of.instances.index(instance) + 1

    def _nvmlDeviceGetIndex(self, gpu: FakeGpu) -> int:
        return self.gpus.index(gpu)

    def _nvmlDeviceGetUUID(self, gpu: FakeGpu) -> str:
        return gpu.uuid

    def _nvmlDeviceGetName(self, gpu: FakeGpu) -> str:
        return gpu.name

    def _nvmlDeviceGetClockInfo(self, gpu: FakeGpu, kind: int) -> Any:
        return self._answer(gpu, "ClockInfo") if kind == self.NVML_CLOCK_SM else 2619

    def _nvmlGpmQueryDeviceSupport(self, gpu: FakeGpu) -> Any:
        return self._answer(gpu, "GpmSupport")

    def _nvmlGpmSampleAlloc(self) -> dict[int, float]:
        self.buffers += 1
        return {}

    def _nvmlGpmSampleFree(self, buffer: dict[int, float]) -> None:
        self.buffers -= 1

    def _nvmlGpmSampleGet(self, gpu: FakeGpu, buffer: dict[int, float]) -> dict[int, float]:
        for metric, gain in gpu.gains.items():
            gpu.counters[metric] += gain.take() if isinstance(gain, Turns) else gain
        buffer.update(gpu.counters)
        return buffer

    def _nvmlGpmMigSampleGet(self, gpu: FakeGpu, instance: int, buffer: dict[int, float]) -> dict[int, float]:
        return self._nvmlGpmSampleGet(gpu.instances[instance - 1], buffer)

    def c_nvmlGpmMetricsGet_t(self) -> SimpleNamespace:
        return SimpleNamespace(metrics=[SimpleNamespace(nvmlReturn=0, value=0.0) for _ in range(98)])

    def _nvmlGpmMetricsGet(self, request: Any) -> Any:
        """The gain from the first sample to the second; NOT_SUPPORTED for a metric that the GPU has not."""
        assert request.version == self.NVML_GPM_METRICS_GET_VERSION
        for metric in request.metrics[: request.numMetrics]:
            if metric.metricId in request.sample2:
                metric.value = request.sample2[metric.metricId] - request.sample1[metric.metricId]
            else:
                metric.nvmlReturn = NOT_SUPPORTED
        return request

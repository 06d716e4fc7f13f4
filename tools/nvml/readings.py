"""What NVML tells about a GPU: every value is a number or text, or `Unavailable` with the reason; nothing raises."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Literal, TypeAlias, TypeVar

__all__ = ["GpuDescription", "GpuProcess", "GpuSnapshot", "Reading", "Unavailable", "available", "document"]

T = TypeVar("T")


@dataclass(frozen=True)
class Unavailable:
    """A value that there is not, and why.

    `when` says whether to ask again: `never`, since this GPU or driver has no such value; `failed`: the call did, this
    time; `later`, since it needs a second look.
    """

    reason: str
    when: Literal["never", "failed", "later"] = "never"

    def __str__(self) -> str:
        return f"unavailable: {self.reason}"


Reading: TypeAlias = T | Unavailable


def available(reading: Reading[T]) -> T | None:
    """The value, or None where there is none."""
    return None if isinstance(reading, Unavailable) else reading


@dataclass(frozen=True)
class GpuDescription:
    """What does not change while a program runs; asked once.

    `ordinal` is CUDA's number of the device (cuda:0), `index` NVML's, which no environment variable changes.
    `memory_bytes` is that of the MIG instance where the device is one. `cuda_version` is the newest that the driver
    runs.
    """

    ordinal: int
    index: Reading[int]
    uuid: Reading[str]
    name: Reading[str]
    pci_bus_id: Reading[str]
    capability: Reading[str]
    memory_bytes: Reading[int]
    power_limit_watts: Reading[float]
    max_sm_clock_mhz: Reading[int]
    compute_mode: Reading[str]
    persistence_mode: Reading[bool]
    mig_mode: Reading[bool]
    is_mig_instance: bool
    gpm: Reading[bool]
    driver_version: Reading[str]
    cuda_version: Reading[str]

    def document(self) -> dict[str, Any]:
        """JSON values: null where there is none, and its reason under `unavailable`."""
        return document({each.name: getattr(self, each.name) for each in fields(self)})


@dataclass(frozen=True)
class GpuSnapshot:
    """One look at a GPU. Shares are 0 to 1; `time` is that of `time.perf_counter`, in seconds.

    `utilization` is the share of NVML's last window (1/6 to 1 s) in which any kernel ran: it cannot tell one busy SM
    from all. The last five are means since the snapshot before, by GPM (Hopper and later): SMs with a warp, resident
    warps of the most possible, cycles of any tensor pipe, of its half-precision part, and memory bandwidth.
    `energy_joules` counts from when the driver was loaded. Of a MIG instance `power_watts`, `energy_joules`, clocks,
    temperature and throttling are those of the whole GPU.
    """

    time: float
    utilization: Reading[float]
    memory_utilization: Reading[float]
    memory_used_bytes: Reading[int]
    memory_total_bytes: Reading[int]
    power_watts: Reading[float]
    energy_joules: Reading[float]
    sm_clock_mhz: Reading[int]
    memory_clock_mhz: Reading[int]
    temperature_celsius: Reading[int]
    throttle_reasons: Reading[tuple[str, ...]]
    sm_activity: Reading[float]
    sm_occupancy: Reading[float]
    tensor_activity: Reading[float]
    half_tensor_activity: Reading[float]
    dram_activity: Reading[float]

    def document(self) -> dict[str, Any]:
        """JSON values: null where there is none, and its reason under `unavailable`."""
        return document({each.name: getattr(self, each.name) for each in fields(self)})


@dataclass(frozen=True)
class GpuProcess:
    """A process that computes on a GPU. Inside a container `pid` is the host's number."""

    pid: int
    memory_bytes: Reading[int]


def document(readings: Mapping[str, Reading[Any]]) -> dict[str, Any]:
    """Readings as JSON values: null where there is none, and its reason under `unavailable`."""
    reasons = {name: reading.reason for name, reading in readings.items() if isinstance(reading, Unavailable)}
    return {**{name: available(reading) for name, reading in readings.items()}, "unavailable": reasons}

"""Snapshots as text, and a clock that a test moves."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

from asyncpipe.tools.nvml import GpuSnapshot, Nvml, open_nvml
from tests.tools.nvml.fake_pynvml import FakePynvml

__all__ = ["Clock", "connect", "snapshot", "text"]

_BUSY: dict[str, Any] = {
    "time": 0.0,
    "utilization": 1.0,
    "memory_utilization": 0.4,
    "memory_used_bytes": 30,
    "memory_total_bytes": 80,
    "power_watts": 500.0,
    "energy_joules": 0.0,
    "sm_clock_mhz": 1980,
    "memory_clock_mhz": 2619,
    "temperature_celsius": 61,
    "throttle_reasons": (),
    "sm_activity": 0.7,
    "sm_occupancy": 0.35,
    "tensor_activity": 0.45,
    "half_tensor_activity": 0.4,
    "dram_activity": 0.2,
}


class Clock:
    """Every look at it moves it by `step` seconds."""

    def __init__(self, step: float = 1.0) -> None:
        self.now, self._step = 0.0, step

    def __call__(self) -> float:
        self.now += self._step
        return self.now


def connect(pynvml: FakePynvml, clock: Clock | None = None, **environment: str) -> Nvml:
    """Our driver on a stand-in, on a machine with only these variables."""
    return open_nvml(pynvml=pynvml, environment=environment, clock=clock or Clock())


def snapshot(**readings: Any) -> GpuSnapshot:
    """A GPU at work; `readings` replace some."""
    return GpuSnapshot(**{**_BUSY, **readings})


def text(value: Any) -> str:
    """Each field of a dataclass on a line, but for the time."""
    return "\n".join(f"{each.name:20} {getattr(value, each.name)}" for each in fields(value) if each.name != "time")

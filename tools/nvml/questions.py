"""Which call of NVML answers which field, in whose units; older drivers and bindings have other names."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from asyncpipe.tools.nvml.calls import Calls
from asyncpipe.tools.nvml.readings import Unavailable
from asyncpipe.tools.nvml.throttling import throttle_words

__all__ = ["DESCRIPTION", "SNAPSHOT", "Question", "answers"]


def _milli(value: int) -> float:
    """NVML counts milliwatts and millijoules."""
    return value / 1000


@dataclass(frozen=True)
class Question:
    """One call, newest form first, and the fields that its answer gives.

    `of_instance` where a MIG instance has an answer of its own; else the whole GPU is asked.
    """

    fields: Mapping[str, Callable[[Any], object]]
    attempts: tuple[Callable[[Any, Any], Any], ...]
    of_instance: bool = field(default=False, kw_only=True)


SNAPSHOT = (
    Question(
        {"utilization": lambda rates: rates.gpu / 100, "memory_utilization": lambda rates: rates.memory / 100},
        (lambda nvml, gpu: nvml.nvmlDeviceGetUtilizationRates(gpu),),
        of_instance=True,
    ),
    Question(
        {"memory_used_bytes": lambda memory: memory.used, "memory_total_bytes": lambda memory: memory.total},
        (
            lambda nvml, gpu: nvml.nvmlDeviceGetMemoryInfo(gpu, version=nvml.nvmlMemory_v2),
            lambda nvml, gpu: nvml.nvmlDeviceGetMemoryInfo(gpu),
        ),
        of_instance=True,
    ),
    Question({"power_watts": _milli}, (lambda nvml, gpu: nvml.nvmlDeviceGetPowerUsage(gpu),)),
    Question({"energy_joules": _milli}, (lambda nvml, gpu: nvml.nvmlDeviceGetTotalEnergyConsumption(gpu),)),
    Question({"sm_clock_mhz": int}, (lambda nvml, gpu: nvml.nvmlDeviceGetClockInfo(gpu, nvml.NVML_CLOCK_SM),)),
    Question({"memory_clock_mhz": int}, (lambda nvml, gpu: nvml.nvmlDeviceGetClockInfo(gpu, nvml.NVML_CLOCK_MEM),)),
    Question(
        {"temperature_celsius": int},
        (
            lambda nvml, gpu: nvml.nvmlDeviceGetTemperatureV(gpu, nvml.NVML_TEMPERATURE_GPU),
            lambda nvml, gpu: nvml.nvmlDeviceGetTemperature(gpu, nvml.NVML_TEMPERATURE_GPU),
        ),
    ),
    Question(
        {"throttle_reasons": throttle_words},
        (
            lambda nvml, gpu: nvml.nvmlDeviceGetCurrentClocksEventReasons(gpu),
            lambda nvml, gpu: nvml.nvmlDeviceGetCurrentClocksThrottleReasons(gpu),
        ),
    ),
)
"""Asked at each look. No question about processes: such a call takes a thousand times as long."""

_COMPUTE_MODES = {0: "default", 1: "exclusive thread", 2: "prohibited", 3: "exclusive process"}

DESCRIPTION = (
    Question({"index": int}, (lambda nvml, gpu: nvml.nvmlDeviceGetIndex(gpu),)),
    Question({"uuid": str}, (lambda nvml, gpu: nvml.nvmlDeviceGetUUID(gpu),), of_instance=True),
    Question({"name": str}, (lambda nvml, gpu: nvml.nvmlDeviceGetName(gpu),), of_instance=True),
    Question({"pci_bus_id": lambda pci: _text(pci.busId)}, (lambda nvml, gpu: nvml.nvmlDeviceGetPciInfo(gpu),)),
    Question(
        {"capability": lambda version: "{}.{}".format(*version)},
        (lambda nvml, gpu: nvml.nvmlDeviceGetCudaComputeCapability(gpu),),
    ),
    Question(
        {"memory_bytes": lambda memory: memory.total},
        (lambda nvml, gpu: nvml.nvmlDeviceGetMemoryInfo(gpu),),
        of_instance=True,
    ),
    Question({"power_limit_watts": _milli}, (lambda nvml, gpu: nvml.nvmlDeviceGetEnforcedPowerLimit(gpu),)),
    Question({"max_sm_clock_mhz": int}, (lambda nvml, gpu: nvml.nvmlDeviceGetMaxClockInfo(gpu, nvml.NVML_CLOCK_SM),)),
    Question(
        {"compute_mode": lambda mode: _COMPUTE_MODES.get(mode, f"mode {mode}")},
        (lambda nvml, gpu: nvml.nvmlDeviceGetComputeMode(gpu),),
    ),
    Question({"persistence_mode": bool}, (lambda nvml, gpu: nvml.nvmlDeviceGetPersistenceMode(gpu),)),
    Question({"mig_mode": lambda modes: bool(modes[0])}, (lambda nvml, gpu: nvml.nvmlDeviceGetMigMode(gpu),)),
    Question({"driver_version": str}, (lambda nvml, gpu: nvml.nvmlSystemGetDriverVersion(),)),
    Question(
        {"cuda_version": lambda number: f"{number // 1000}.{number % 1000 // 10}"},
        (
            lambda nvml, gpu: nvml.nvmlSystemGetCudaDriverVersion_v2(),
            lambda nvml, gpu: nvml.nvmlSystemGetCudaDriverVersion(),
        ),
    ),
)
"""Asked once."""


def answers(calls: Calls, questions: Sequence[Question], instance: Any, whole_gpu: Any) -> dict[str, Any]:
    """Ask all of them, one call each; every field gets a reading."""
    found: dict[str, Any] = {}
    for question in questions:
        handle = instance if question.of_instance else whole_gpu
        attempts = [lambda nvml, call=call, handle=handle: call(nvml, handle) for call in question.attempts]
        answer = calls.ask(tuple(question.fields), attempts)
        for name, convert in question.fields.items():
            found[name] = answer if isinstance(answer, Unavailable) else convert(answer)
    return found


def _text(value: str | bytes) -> str:
    return value.decode() if isinstance(value, bytes) else value

"""Clocks, power, temperature and reasons of throttling, where NVML is there to tell; nothing is changed."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any

import torch

__all__ = ["describe_gpu"]


def describe_gpu() -> dict[str, Any] | None:
    """The current device as NVML sees it now; None without a GPU, a reason where NVML does not answer."""
    if not torch.cuda.is_available():
        return None
    try:
        pynvml: Any = importlib.import_module("pynvml")
    except ImportError:
        return {"not_read": "nvidia-ml-py is not installed"}
    try:
        pynvml.nvmlInit()
        uuid = str(getattr(torch.cuda.get_device_properties(torch.cuda.current_device()), "uuid", ""))
        return _read(pynvml, uuid)
    except pynvml.NVMLError as error:
        return {"not_read": f"NVML: {error}"}


def _read(nvml: Any, uuid: str) -> dict[str, Any]:
    handle = _handle(nvml, uuid)
    reasons = getattr(nvml, "nvmlDeviceGetCurrentClocksEventReasons", None)
    reasons = reasons or nvml.nvmlDeviceGetCurrentClocksThrottleReasons
    readings: dict[str, Callable[[], object]] = {
        "sm_clock_mhz": lambda: nvml.nvmlDeviceGetClockInfo(handle, nvml.NVML_CLOCK_SM),
        "memory_clock_mhz": lambda: nvml.nvmlDeviceGetClockInfo(handle, nvml.NVML_CLOCK_MEM),
        "power_w": lambda: nvml.nvmlDeviceGetPowerUsage(handle) / 1e3,
        "temperature_c": lambda: nvml.nvmlDeviceGetTemperature(handle, nvml.NVML_TEMPERATURE_GPU),
        "throttle_reasons": lambda: hex(reasons(handle)),
        "driver": lambda: str(nvml.nvmlSystemGetDriverVersion()),
    }
    found: dict[str, Any] = {}
    for name, read in readings.items():
        try:
            found[name] = read()
        except nvml.NVMLError as error:
            found[name] = f"not read: {error}"
    return found


def _handle(nvml: Any, uuid: str) -> Any:
    """By UUID, since CUDA_VISIBLE_DEVICES renumbers torch's devices but not NVML's."""
    if uuid:
        try:
            return nvml.nvmlDeviceGetHandleByUUID(uuid if uuid.startswith("GPU-") else f"GPU-{uuid}")
        except nvml.NVMLError:
            pass
    return nvml.nvmlDeviceGetHandleByIndex(torch.cuda.current_device())

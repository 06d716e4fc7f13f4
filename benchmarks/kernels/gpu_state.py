"""Clocks, power, temperature and throttling of the GPU that is measured, where NVML tells; nothing is changed."""

from __future__ import annotations

from typing import Any

import torch

from asyncpipe.tools.nvml import open_nvml

__all__ = ["describe_gpu"]

_KEPT = ("sm_clock_mhz", "memory_clock_mhz", "power_watts", "temperature_celsius", "throttle_reasons")


def describe_gpu() -> dict[str, Any] | None:
    """The current device as NVML sees it now, null with a reason where it does not; None without a GPU."""
    if not torch.cuda.is_available():
        return None
    torch.cuda.init()  # so that devices are found by torch's own UUIDs
    with open_nvml() as nvml:
        gpu = nvml.gpu(torch.cuda.current_device())
        driver, seen = gpu.description.document()["driver_version"], gpu.read().document()
    reasons = {name: reason for name, reason in seen["unavailable"].items() if name in _KEPT}
    return {"driver_version": driver, **{name: seen[name] for name in _KEPT}, "unavailable": reasons}

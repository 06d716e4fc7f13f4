"""What the benchmark of kernels notes about the GPU that it measures on."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from tests.tools.nvml.fake_pynvml import FakePynvml, hopper, without

KERNELS = Path(__file__).parents[2] / "benchmarks" / "kernels"


def described(monkeypatch: pytest.MonkeyPatch, pynvml: object) -> Any:
    """On a machine where torch has one GPU, NVML's second."""
    monkeypatch.syspath_prepend(str(KERNELS))
    monkeypatch.setitem(sys.modules, "pynvml", pynvml)
    for name, value in {"init": None, "is_available": True, "is_initialized": True, "device_count": 1}.items():
        monkeypatch.setattr(torch.cuda, name, lambda value=value: value)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 0)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda _: SimpleNamespace(uuid="b"))
    return importlib.import_module("gpu_state").describe_gpu()


def test_the_state_is_that_of_torchs_device(monkeypatch: pytest.MonkeyPatch) -> None:
    second = without(hopper("GPU-b", ClockInfo=1500, CurrentClocksEventReasons=4), "TemperatureV")
    assert described(monkeypatch, FakePynvml(hopper("GPU-a"), second)) == {
        "driver_version": "580.95.05",
        "sm_clock_mhz": 1500,
        "memory_clock_mhz": 2619,
        "power_watts": 500.0,
        "temperature_celsius": None,
        "throttle_reasons": ("software power cap",),
        "unavailable": {"temperature_celsius": "not supported by this GPU"},
    }


def test_without_nvml_the_reason_is_noted(monkeypatch: pytest.MonkeyPatch) -> None:
    found = described(monkeypatch, None)
    assert found["sm_clock_mhz"] is None
    assert set(found["unavailable"].values()) == {"nvidia-ml-py is not installed"}

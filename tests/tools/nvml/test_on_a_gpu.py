"""NVML on a real GPU: its readings agree with torch's, and are what they can be."""

from __future__ import annotations

import time

import pytest
import torch

from asyncpipe.tools.doctor import examine, gather_environment
from asyncpipe.tools.nvml import GpuSnapshot, Sampler, Unavailable, available, open_nvml

pytestmark = pytest.mark.cuda

SHARES = ["utilization", "memory_utilization", "sm_activity", "sm_occupancy", "tensor_activity", "dram_activity"]


@pytest.fixture(autouse=True)
def bindings() -> None:
    pytest.importorskip("pynvml")


def work(seconds: float) -> None:
    """Products for so long."""
    matrix = torch.randn(4096, 4096, device="cuda", dtype=torch.bfloat16)
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        for _ in range(20):
            matrix = matrix @ matrix * 1e-3
        torch.cuda.synchronize()


def test_every_device_is_torchs() -> None:
    torch.cuda.init()
    with open_nvml() as nvml:
        assert nvml.missing is None
        assert len(nvml.gpus) == torch.cuda.device_count()
        for ordinal, gpu in enumerate(nvml.gpus):
            properties = torch.cuda.get_device_properties(ordinal)
            assert str(properties.uuid) in str(gpu.description.uuid)
            assert gpu.description.capability == f"{properties.major}.{properties.minor}"
            assert gpu.description.ordinal == ordinal


def test_a_working_gpu_is_seen_to_work() -> None:
    torch.cuda.init()
    with open_nvml() as nvml, Sampler(nvml.gpu(0), period=0.2) as sampler:
        work(seconds=1.5)
    window = sampler.window()
    assert window.count >= 3
    used = window.readings["memory_used_bytes"]
    assert isinstance(used, Unavailable) or used.mean >= 2 * 4096 * 4096
    for name in SHARES:
        reading = window.readings[name]
        assert isinstance(reading, Unavailable) or 0 <= reading.p10 <= reading.p90 <= 1, name
    busy = window.readings["sm_activity"]
    assert isinstance(busy, Unavailable) or busy.p90 > 0
    energy = available(window.energy_joules)
    assert energy is None or energy > 0
    assert not [s for s in sampler.snapshots if _failed(s)]


def _failed(snapshot: GpuSnapshot) -> list[str]:
    readings = {name: getattr(snapshot, name) for name in vars(snapshot)}
    return [name for name, reading in readings.items() if isinstance(reading, Unavailable) and reading.when == "failed"]


def test_the_doctor_lists_the_gpu() -> None:
    environment = gather_environment({})
    messages = [finding.message for finding in examine(environment) if finding.subject == "cuda:0"]
    assert messages[0].startswith(torch.cuda.get_device_name(0))

"""GPU readings beside a measured run, on the stand-in for NVML's module."""

from __future__ import annotations

import time
from typing import Any

import pytest

from asyncpipe.tools.nvml import open_nvml, summarize
from asyncpipe.tools.profile.gpu import gpu_lines, watched_gpu
from tests.tools.nvml.fake_pynvml import LIBRARY_NOT_FOUND, Error, FakePynvml, hopper
from tests.tools.nvml.looks import snapshot

SAMPLER = {"snapshots": 3, "seconds": 0.01, "wall_s": 2.0, "share": 0.005}


def lines(document: dict[str, Any]) -> str:
    return "".join(f"{name}: {text}\n" for name, text in gpu_lines({**document, "sampler": SAMPLER}))


def test_readings_are_told_as_means_with_the_energy_of_a_sample() -> None:
    looks = [snapshot(time=float(i), energy_joules=400.0 * i, memory_used_bytes=30 * 2**30) for i in range(3)]
    assert lines(summarize(looks, 0.0, 2.0).document(samples=1000)) == (
        "gpu busy: any kernel 100%, SMs 70%, occupancy 35%, tensor 45%, DRAM 20%\n"
        "gpu: 30 GiB, 500 W, 1.98e+03 MHz, 61 C, 0.8 J for each sample\n"
        "sampler: 3 looks, 0.50% of the time\n"
    )


def test_throttled_looks_are_told_with_their_reasons() -> None:
    looks = [snapshot(time=float(i), throttle_reasons=("hardware thermal slowdown",) if i else ()) for i in range(4)]
    document = summarize(looks, 0.0, 3.0).document()
    assert f"throttled: {document['throttled']:.0%} of the looks: hardware thermal slowdown\n" in lines(document)


def test_gpu_is_watched_while_a_run_lasts() -> None:
    fake = FakePynvml(hopper("GPU-a"))
    with watched_gpu(0, lambda: open_nvml(pynvml=fake, environment={}, clock=time.perf_counter)) as readings:
        pass
    found = readings(10)
    assert found["power_watts"]["mean"] == 500.0
    assert found["sampler"]["snapshots"] == found["power_watts"]["count"] == 2
    assert fake.connections == 0


def test_without_nvml_every_reading_is_null_with_its_reason(capfd: pytest.CaptureFixture[str]) -> None:
    fake = FakePynvml(init=Error(LIBRARY_NOT_FOUND))
    with watched_gpu(0, lambda: open_nvml(pynvml=fake, environment={}, clock=time.perf_counter)) as readings:
        pass
    found = readings(10)
    assert found["power_watts"] is None
    assert len(set(found["unavailable"].values())) == 1
    assert ": not known: " in lines(found)
    assert capfd.readouterr().err.count("warning: ") == 1

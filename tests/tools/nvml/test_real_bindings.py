"""The real nvidia-ml-py under our driver, on a library in C that stands for NVIDIA's: structures and all."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("pynvml")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(shutil.which("gcc") is None, reason="needs gcc"),
]
SOURCE = Path(__file__).with_name("library.c")
LOOK = """
import time
from asyncpipe.tools.nvml import open_nvml
from tests.tools.nvml.looks import text
with open_nvml() as nvml:
    gpu = nvml.gpu(0)
    print(text(gpu.description), gpu.other_processes(), sep="\\n")
    for _ in range(3):
        time.sleep(0.11)
        seen = gpu.read()
    print(text(seen), gpu.is_lost, sep="\\n")
"""
DESCRIPTION = """\
ordinal              0
index                0
uuid                 GPU-a
name                 NVIDIA H200
pci_bus_id           00000000:1B:00.0
capability           9.0
memory_bytes         1000
power_limit_watts    700.0
max_sm_clock_mhz     1980
compute_mode         default
persistence_mode     True
mig_mode             False
is_mig_instance      False
gpm                  True
driver_version       580.95.05
cuda_version         13.0
(GpuProcess(pid=4711, memory_bytes=2048),)
"""
SEEN = """\
utilization          0.97
memory_utilization   0.12
memory_used_bytes    300
memory_total_bytes   1000
power_watts          612.345
energy_joules        5000000.75
sm_clock_mhz         1755
memory_clock_mhz     3201
temperature_celsius  55
throttle_reasons     ('software power cap', 'software thermal slowdown')
sm_activity          0.1
sm_occupancy         unavailable: not supported by this GPU
tensor_activity      0.25
half_tensor_activity 0.35
dram_activity        0.5
False
"""


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the compiled library."""
    folder = tmp_path_factory.mktemp("nvml")
    target = str(folder / "libnvidia-ml.so.1")
    made = ["gcc", "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC", "-o", target, str(SOURCE)]
    subprocess.run(made, check=True, capture_output=True, text=True)
    return folder


def looked(library: Path, **variables: str) -> str:
    """What a process with that library prints."""
    environment = {**os.environ, "LD_LIBRARY_PATH": str(library), "PYTHONPATH": str(Path.cwd()), **variables}
    done = subprocess.run([sys.executable, "-c", LOOK], env=environment, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def test_every_reading_comes_through_the_real_bindings(library: Path) -> None:
    assert looked(library) == DESCRIPTION + SEEN


def test_a_loss_comes_through_the_real_bindings(library: Path) -> None:
    lines = looked(library, LOST_AFTER="2").removeprefix(DESCRIPTION).splitlines()
    assert {line[21:] for line in lines[:-1]} == {"unavailable: the GPU is lost"}
    assert lines[-1] == "True"

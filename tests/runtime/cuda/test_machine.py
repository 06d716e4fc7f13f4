"""What a machine lacks: a driver, a GPU, a torch with CUDA, enough devices. Each has a code, and exit code 4."""

from __future__ import annotations

import os

import pytest
import torch

from asyncpipe import Trainer
from asyncpipe.errors import MachineError
from asyncpipe.runtime.cuda.machine import require_cuda, too_few_devices
from tests.runtime.cuda.recorded import network

NO_DRIVER = (
    "Found no NVIDIA driver on your system. Please check that you have an NVIDIA GPU and installed a driver from"
    " http://www.nvidia.com/Download/index.aspx"
)
"""What torch says (c10/cuda/CUDAFunctions.cpp)."""


def refused(monkeypatch: pytest.MonkeyPatch, cuda: str | None, said: str = "") -> str:
    def init() -> None:
        if said:
            raise RuntimeError(said)

    monkeypatch.setattr(torch.version, "cuda", cuda)
    monkeypatch.setattr(torch.cuda, "init", init)
    monkeypatch.setattr(torch, "__version__", "2.13.0")
    with pytest.raises(MachineError) as found:
        require_cuda()
    return str(found.value)


def test_a_torch_without_cuda_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    assert refused(monkeypatch, None) == (
        "error[AP701]: this torch (2.13.0) was built without CUDA\n  help: install a torch with CUDA"
        " (pytorch.org/get-started), or leave `--backend` out: `--backend threads` runs the same schedule on the CPU"
    )


@pytest.mark.parametrize(
    "said", [NO_DRIVER, "The NVIDIA driver on your system is too old (found version 12040). Please update."]
)
def test_a_missing_or_old_driver_is_told(monkeypatch: pytest.MonkeyPatch, said: str) -> None:
    assert refused(monkeypatch, "13.0", said) == (
        f"error[AP702]: torch 2.13.0 cannot use the NVIDIA driver: {said}\n  help: `nvidia-smi` shows the driver; this"
        " torch needs one for CUDA 13.0. `--backend threads` runs the same schedule on the CPU"
    )


def test_hidden_gpus_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    assert refused(monkeypatch, "13.0", "No CUDA GPUs are available") == (
        "error[AP703]: torch sees no GPU: No CUDA GPUs are available\n  help: look at CUDA_VISIBLE_DEVICES and at the"
        " GPUs that `nvidia-smi` lists. `--backend threads` runs the same schedule on the CPU"
    )


def test_too_few_devices_are_told_with_both_numbers() -> None:
    error = too_few_devices(4, 1)
    assert error.exit_code == 4
    assert str(error) == (
        "error[AP704]: the schedule asks for 4 devices, and this machine has 1\n"
        "  help: add --emulate to run all of them on one device, or set `devices: 1`"
    )


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
@pytest.mark.parametrize("backend", ["streams", "graph"])
def test_a_trainer_without_a_gpu_says_why(backend: str) -> None:
    with pytest.raises(MachineError, match=r"error\[AP70[123]\]: "):
        Trainer(network(), "sgd", backend=backend)


@pytest.mark.parametrize(("before", "after"), [(None, "32"), ("8", "8")])
def test_streams_get_hardware_queues_of_their_own(
    monkeypatch: pytest.MonkeyPatch, before: str | None, after: str
) -> None:
    """CUDA reads it when it begins; a value that somebody has chosen stays."""
    monkeypatch.setenv("CUDA_DEVICE_MAX_CONNECTIONS", before or "")
    if before is None:
        monkeypatch.delenv("CUDA_DEVICE_MAX_CONNECTIONS")
    refused(monkeypatch, None)
    assert os.environ["CUDA_DEVICE_MAX_CONNECTIONS"] == after

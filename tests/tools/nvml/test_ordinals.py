"""Which GPU is cuda:0, where NVML lists them in another order than CUDA."""

from __future__ import annotations

import sys
from types import SimpleNamespace
from typing import Any

import pytest

from asyncpipe.tools.nvml import open_nvml
from asyncpipe.tools.nvml.ordinals import ListedGpu, uuids_from_environment
from tests.tools.nvml.fake_pynvml import FakeGpu, FakePynvml, hopper
from tests.tools.nvml.looks import connect

LISTED = [ListedGpu("GPU-aa11", "H100"), ListedGpu("GPU-ab22", "H100"), ListedGpu("GPU-cc33", "H100")]
MIXED = [ListedGpu("GPU-old", "T4"), ListedGpu("GPU-new", "H100")]
DIVIDED = [ListedGpu("GPU-aa11", "H100", ("MIG-x", "MIG-y")), ListedGpu("GPU-ab22", "H100")]
BY_SPEED = (
    "unavailable: CUDA orders GPUs of different kinds by speed: "
    "set CUDA_DEVICE_ORDER=PCI_BUS_ID, or ask after CUDA has started"
)


def seen(listed: list[ListedGpu], visible: str | None = None, order: str | None = None) -> list[str]:
    variables = {"CUDA_VISIBLE_DEVICES": visible, "CUDA_DEVICE_ORDER": order}
    given = {name: value for name, value in variables.items() if value is not None}
    return list(map(str, uuids_from_environment(listed, given)))


@pytest.mark.parametrize(
    ("visible", "uuids"),
    [
        (None, ["GPU-aa11", "GPU-ab22", "GPU-cc33"]),
        ("2,0", ["GPU-cc33", "GPU-aa11"]),
        (" 1 , 2 ", ["GPU-ab22", "GPU-cc33"]),
        ("1gpu,2", ["GPU-ab22", "GPU-cc33"]),
        ("", []),
        ("-1", []),
        ("NoDevFiles", []),
        ("1,-1,0", ["GPU-ab22"]),
        ("0,3,1", ["GPU-aa11"]),
        ("1,1", []),
        ("GPU-cc,GPU-aa11", ["GPU-cc33", "GPU-aa11"]),
        ("GPU-a", []),
        ("GPU-cc33,GPU-dd", ["GPU-cc33"]),
    ],
)
def test_visible_devices_choose_and_order(visible: str | None, uuids: list[str]) -> None:
    assert seen(LISTED, visible) == uuids


def test_numbers_of_gpus_of_different_kinds_mean_nothing_by_default() -> None:
    assert seen(MIXED) == [BY_SPEED, BY_SPEED]
    assert seen(MIXED, "1") == [BY_SPEED]


def test_numbers_of_gpus_of_different_kinds_mean_the_bus_where_that_is_asked_for() -> None:
    assert seen(MIXED, "1", "PCI_BUS_ID") == ["GPU-new"]


def test_uuids_need_no_order() -> None:
    assert seen(MIXED, "GPU-new,GPU-old") == ["GPU-new", "GPU-old"]


def test_of_a_divided_gpu_the_first_instance_is_used() -> None:
    assert seen(DIVIDED) == ["MIG-x", "GPU-ab22"]
    assert seen(DIVIDED, "MIG-y") == ["MIG-y"]
    assert seen(DIVIDED, "0") == ["MIG-x"]


def two() -> tuple[FakeGpu, FakeGpu]:
    """Two GPUs whose power tells them apart."""
    return hopper("GPU-a", PowerUsage=100_000), hopper("GPU-b", PowerUsage=200_000)


def power(nvml: Any) -> list[object]:
    return [gpu.read().power_watts for gpu in nvml.gpus]


def test_without_variables_cuda_counts_as_nvml_does() -> None:
    with connect(FakePynvml(*two())) as nvml:
        assert power(nvml) == [100.0, 200.0]


def test_devices_that_the_environment_swaps_are_swapped() -> None:
    with connect(FakePynvml(*two()), CUDA_VISIBLE_DEVICES="1,0") as nvml:
        assert power(nvml) == [200.0, 100.0]
        assert [gpu.description.index for gpu in nvml.gpus] == [1, 0]
        assert [gpu.description.ordinal for gpu in nvml.gpus] == [0, 1]


@pytest.mark.parametrize("prefix", ["", "GPU-"])
def test_the_uuids_of_torch_decide_with_and_without_prefix(prefix: str) -> None:
    uuids = [f"{prefix}b", f"{prefix}a"]
    with open_nvml(uuids, pynvml=FakePynvml(*two()), environment={}) as nvml:
        assert power(nvml) == [200.0, 100.0]


def test_torch_is_asked_once_it_has_started_cuda(monkeypatch: pytest.MonkeyPatch) -> None:
    cuda = SimpleNamespace(
        is_available=lambda: True,
        is_initialized=lambda: True,
        device_count=lambda: 2,
        get_device_properties=lambda ordinal: SimpleNamespace(uuid="ba"[ordinal]),
    )
    monkeypatch.setitem(sys.modules, "torch", SimpleNamespace(cuda=cuda))
    with connect(FakePynvml(*two())) as nvml:
        assert power(nvml) == [200.0, 100.0]
    cuda.is_initialized = lambda: False
    with connect(FakePynvml(*two())) as nvml:
        assert power(nvml) == [100.0, 200.0]


def test_after_an_error_that_cuda_keeps_the_environment_tells(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError("CUDA error: an illegal memory access was encountered")

    cuda = SimpleNamespace(
        is_available=lambda: True,
        is_initialized=lambda: True,
        device_count=lambda: 2,
        get_device_properties=broken,
    )
    monkeypatch.setitem(sys.modules, "torch", SimpleNamespace(cuda=cuda))
    with connect(FakePynvml(*two())) as nvml:
        assert power(nvml) == [100.0, 200.0]


def test_a_device_that_nvml_does_not_know_is_missing_alone() -> None:
    with open_nvml(["z", "a"], pynvml=FakePynvml(*two()), environment={}) as nvml:
        assert list(map(str, power(nvml))) == ["unavailable: NVML knows no GPU z: not found", "100.0"]


@pytest.mark.parametrize("state", ["is_lost", "is_forbidden"])
def test_a_gpu_that_does_not_answer_at_the_start_is_left_out(state: str) -> None:
    first, second = two()
    setattr(first, state, True)
    with connect(FakePynvml(first, second)) as nvml:
        assert power(nvml) == [200.0]

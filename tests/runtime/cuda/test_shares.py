"""Streams with SMs of their own: what a device can give, what it refuses, and what the driver is asked for."""

from __future__ import annotations

import sys
from enum import IntEnum
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import torch

from asyncpipe.compiler import compile_schedule
from asyncpipe.errors import MachineError
from asyncpipe.runtime.cuda import green
from asyncpipe.runtime.cuda.device_streams import make_streams
from asyncpipe.runtime.cuda.recording.cuda import RecordingCuda
from asyncpipe.runtime.cuda.shares import Granularity, Share, require_shares, smallest_groups
from asyncpipe.schedule import load

HOPPER = Granularity(132)


def refusal(*asks: int, of: Granularity = HOPPER) -> str:
    shares = [Share(f"s{i}", sms) for i, sms in enumerate(asks)]
    with pytest.raises(MachineError) as refused:
        require_shares(0, shares, of)
    assert refused.value.exit_code == 4
    return str(refused.value)


@pytest.mark.parametrize(
    ("asks", "words"),
    [
        ((20, 0), "stream s0 asks for 20 SMs; device 0 gives them out in multiples of 8, at least 8"),
        ((20, 0), "at least 8\n  help: set `sms` to 16 or 24"),
        ((4, 0), "at least 8\n  help: set `sms` to 8"),
        ((88, 48), "the streams ask for 88 + 48 = 136 SMs; device 0 has 132, of which it gives out 128"),
        ((88, 40, 0), "the streams ask for 88 + 40 = 128 SMs, all that device 0 gives out; none are left for s2"),
    ],
)
def test_an_ask_that_cannot_be_met_is_refused_with_what_can(asks: tuple[int, ...], words: str) -> None:
    assert words in refusal(*asks)


def test_older_devices_give_out_pairs() -> None:
    require_shares(0, [Share("a", 4), Share("b", 104)], Granularity(108, 4, 2))
    assert "multiples of 2, at least 4" in refusal(2, of=Granularity(108, 4, 2))


def test_every_group_goes_to_one_ask_and_the_rest_to_all_others() -> None:
    shares = [Share("a", 64), Share("b", 0), Share("c", 40), Share("d", 0)]
    assert smallest_groups(shares, HOPPER) == [range(8), range(13, 16), range(8, 13), range(13, 16)]


def streams_of(override: str) -> list[tuple[str, int]]:
    program = compile_schedule(load("async-lu", [override, "streams.forward.sms=88"]), 3).program(8)
    made = make_streams(RecordingCuda(), program, [0])
    return [(stream.name, found.sms) for stream, found in zip(program.streams, made.all, strict=True)]


def test_a_schedule_gets_the_shares_that_it_asks_for() -> None:
    assert streams_of("streams.backward.sms=16") == [("forward", 88), ("backward[0]", 16), ("backward[1]", 16)]


def test_streams_without_an_ask_share_what_is_left() -> None:
    assert streams_of("streams.backward.count=2") == [("forward", 88), ("backward[0]", 40), ("backward[1]", 40)]


def test_a_schedule_that_asks_for_too_much_is_refused() -> None:
    with pytest.raises(MachineError, match=r"error\[AP705\]: the streams ask for 88 \+ 64 \+ 64 = 216 SMs"):
        streams_of("streams.backward.sms=64")


class Status(IntEnum):
    CUDA_SUCCESS = 0
    CUDA_ERROR_NOT_SUPPORTED = 801


class Driver(ModuleType):
    """The calls of cuda.bindings.driver that shares need, with the SMs of a Hopper GPU; it notes what it is asked."""

    CUresult = Status
    CUdevResourceType = SimpleNamespace(CU_DEV_RESOURCE_TYPE_SM=1)
    CUgreenCtxCreate_flags = SimpleNamespace(CU_GREEN_CTX_DEFAULT_STREAM=SimpleNamespace(value=1))
    CUstream_flags = SimpleNamespace(CU_STREAM_NON_BLOCKING=SimpleNamespace(value=1))

    def __init__(self, status: Status = Status.CUDA_SUCCESS) -> None:
        super().__init__("driver")
        self.status = status
        self.splits: list[tuple[int, int]] = []
        self.contexts: list[int] = []
        self.made: list[tuple[int, int]] = []

    @staticmethod
    def resource(count: int) -> Any:
        return SimpleNamespace(sm=SimpleNamespace(smCount=count, minSmPartitionSize=8, smCoscheduledAlignment=8))

    def cuDeviceGet(self, ordinal: int) -> tuple[Status, int]:
        return Status.CUDA_SUCCESS, ordinal

    def cuDeviceGetDevResource(self, device: int, kind: int) -> tuple[Status, Any]:
        return self.status, self.resource(132)

    def cuDevSmResourceSplitByCount(self, count: int, whole: Any, flags: int, least: int) -> tuple[Any, ...]:
        self.splits.append((count, least))
        return Status.CUDA_SUCCESS, [self.resource(8) for _ in range(count)], count, self.resource(4)

    def cuDevResourceGenerateDesc(self, parts: list[Any], count: int) -> tuple[Status, int]:
        assert len(parts) == count
        return Status.CUDA_SUCCESS, sum(part.sm.smCount for part in parts)

    def cuGreenCtxCreate(self, description: int, device: int, flags: int) -> tuple[Status, int]:
        self.contexts.append(description)
        return Status.CUDA_SUCCESS, len(self.contexts) - 1

    def cuGreenCtxStreamCreate(self, context: int, flags: int, priority: int) -> tuple[Status, int]:
        self.made.append((self.contexts[context], priority))
        return Status.CUDA_SUCCESS, len(self.made)


@pytest.fixture
def driver(monkeypatch: pytest.MonkeyPatch) -> Driver:
    made = Driver()
    for name, module in (("cuda", ModuleType("cuda")), ("cuda.bindings", ModuleType("bindings"))):
        monkeypatch.setitem(sys.modules, name, module)
    monkeypatch.setitem(sys.modules, "cuda.bindings.driver", made)
    monkeypatch.setattr(green, "_KEPT", [])
    monkeypatch.setattr(torch, "zeros", lambda *size, device: None)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (9, 0))
    monkeypatch.setattr(torch.cuda, "ExternalStream", lambda handle, device: (handle, device.index))
    return made


def test_one_split_serves_all_streams_of_a_device(driver: Driver) -> None:
    shares = [Share("forward", 64, 0), Share("backward", 40, -2), Share("update", 0, -3), Share("other", 0)]
    assert green.shared_out(0, shares) == [(1, 0), (2, 0), (3, 0), (4, 0)]
    assert driver.splits == [(16, 8)]
    assert driver.contexts == [64, 40, 28]  # the rest with the last four SMs
    assert driver.made == [(64, 0), (40, -2), (28, -3), (28, 0)]


def test_a_driver_that_cannot_is_told(driver: Driver) -> None:
    driver.status = Status.CUDA_ERROR_NOT_SUPPORTED
    with pytest.raises(MachineError, match=r"AP705\]: .* need green contexts: the driver says CUDA_ERROR_NOT"):
        green.shared_out(0, [Share("forward", 64)])


def test_missing_bindings_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cuda.bindings.driver", None)
    with pytest.raises(MachineError, match=r"cuda-bindings is missing .*\n  help: pip install cuda-bindings"):
        green.shared_out(0, [Share("forward", 64)])

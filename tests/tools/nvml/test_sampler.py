"""The sampler: how often it looks, what it says, what it costs, and that nothing gets out of its thread."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator

import pytest

from asyncpipe.tools.nvml import GpuSnapshot, Polling, Sampler, SamplerCost, Unavailable, open_nvml
from tests.tools.nvml.fake_pynvml import LIBRARY_NOT_FOUND, UNKNOWN, Error, FakeGpu, FakePynvml, Turns, hopper, without
from tests.tools.nvml.looks import Clock, connect, snapshot


def polled(gpu: FakeGpu, looks: int, period: float = 0.5) -> tuple[list[float | None], list[str]]:
    """The delay after each look, and the warnings."""
    said: list[str] = []
    with connect(FakePynvml(gpu)) as nvml:
        polling = Polling(nvml.gpu(0), period, said.append)
        return [polling.look() for _ in range(looks)], said


def test_a_healthy_gpu_is_looked_at_every_period_without_a_word() -> None:
    assert polled(hopper("GPU-a"), 3) == ([0.5, 0.5, 0.5], [])


def test_no_period_is_shorter_than_a_fifth_of_a_second() -> None:
    assert polled(hopper("GPU-a"), 2, period=0.01) == ([0.2, 0.2], [])


def test_refused_fields_are_neither_a_failure_nor_a_warning() -> None:
    assert polled(without(hopper("GPU-a"), "PowerUsage", "GpmSupport"), 2) == ([0.5, 0.5], [])


def test_failures_double_the_delay_and_are_told_once() -> None:
    gpu = hopper("GPU-a", PowerUsage=Turns(1, Error(UNKNOWN), Error(10), Error(UNKNOWN), 1, Error(UNKNOWN)))
    assert polled(gpu, 6) == (
        [0.5, 1.0, 2.0, 4.0, 0.5, 1.0],
        ["a reading of cuda:0 failed: NVML reports an unknown error"],
    )


def test_the_delay_ends_at_half_a_minute() -> None:
    delays, _ = polled(hopper("GPU-a", PowerUsage=Error(UNKNOWN)), 8)
    assert delays == [1.0, 2.0, 4.0, 8.0, 16.0, 30.0, 30.0, 30.0]


def test_a_look_in_which_everything_fails_is_followed_by_another() -> None:
    gpu = hopper("GPU-a")
    usual = dict(gpu.answers)
    gpu.gains = {}
    without(gpu, *usual, value=UNKNOWN)
    said: list[str] = []
    with connect(FakePynvml(gpu)) as nvml:
        polling = Polling(nvml.gpu(0), 0.5, said.append)
        assert polling.look() == 1.0
        gpu.answers = usual
        assert polling.look() == 0.5
    assert said == ["a reading of cuda:0 failed: NVML reports an unknown error"]


def test_a_lost_gpu_ends_the_looks() -> None:
    said: list[str] = []
    gpu = hopper("GPU-a")
    with connect(FakePynvml(gpu)) as nvml:
        polling = Polling(nvml.gpu(0), 0.5, said.append)
        assert polling.look() == 0.5
        gpu.is_lost = True
        assert polling.look() is None
    assert said == ["no readings of cuda:0: the GPU is lost"]


def test_without_nvml_one_look_is_enough() -> None:
    said: list[str] = []
    with connect(FakePynvml(init=Error(LIBRARY_NOT_FOUND))) as nvml:
        assert Polling(nvml.gpu(0), 0.5, said.append).look() is None
    assert said == ["no readings of cuda:0: libnvidia-ml.so.1 is not on this machine"]


def test_the_cost_is_the_time_inside_the_looks() -> None:
    with connect(FakePynvml(hopper("GPU-a"))) as nvml:
        polling = Polling(nvml.gpu(0), 0.5, clock=Clock(0.25))  # created at 0.25; each look begins and ends at a step
        polling.look()
        polling.look()
        cost = polling.cost(end=10.25)
    assert cost == SamplerCost(calls=2, seconds=0.5, wall_seconds=10.0)
    assert cost.document() == {"snapshots": 2, "seconds": 0.5, "wall_s": 10.0, "share": 0.05}


def test_a_block_has_a_look_at_its_begin_and_one_at_its_end() -> None:
    gpu = hopper("GPU-a")
    with open_nvml(pynvml=FakePynvml(gpu), environment={}) as nvml, Sampler(nvml.gpu(0)) as sampler:
        assert_soon(lambda: len(sampler.snapshots) == 1)
        assert sampler.cost.calls == 1
    assert len(sampler.snapshots) == 2
    window = sampler.window()
    assert (window.count, window.throttled, window.energy_source) == (2, 0.0, "counter")
    assert sampler.window() == window
    assert sampler.window(end=sampler.snapshots[0].time).count == 1
    assert no_sampler_runs()


class Broken:
    """A GPU whose reading raises what no driver should."""

    def __init__(self, looks: Iterator[GpuSnapshot]) -> None:
        self._looks = looks
        with connect(FakePynvml()) as nvml:
            self.description = nvml.gpu(0).description

    is_lost = False

    def read(self) -> GpuSnapshot:
        return next(self._looks)

    def other_processes(self) -> Unavailable:
        return Unavailable("broken")


def test_an_error_of_any_kind_ends_only_the_sampling(capsys: pytest.CaptureFixture[str]) -> None:
    with Sampler(Broken(iter([snapshot()])), period=0.2) as sampler:
        assert_soon(no_sampler_runs)
    assert sampler.window(begin=0.0, end=1.0).count == 1
    assert capsys.readouterr() == ("", "warning: no more readings of the GPU: StopIteration: \n")


def test_the_warning_goes_to_stderr_by_default(capsys: pytest.CaptureFixture[str]) -> None:
    with Sampler(Broken(iter([]))):
        pass
    assert capsys.readouterr() == ("", "warning: no more readings of the GPU: StopIteration: \n")


def test_an_error_of_the_block_leaves_it_and_ends_the_thread() -> None:
    with (
        pytest.raises(ValueError, match="the training's own"),
        open_nvml(pynvml=FakePynvml(hopper("GPU-a")), environment={}) as nvml,
        Sampler(nvml.gpu(0)),
    ):
        raise ValueError("the training's own")
    assert no_sampler_runs()


def no_sampler_runs() -> bool:
    return all(thread.name != "asyncpipe-nvml" for thread in threading.enumerate())


def assert_soon(holds: Callable[[], bool]) -> None:
    """Wait for another thread; the test's own time limit ends a wait in vain."""
    while not holds():
        time.sleep(0.001)

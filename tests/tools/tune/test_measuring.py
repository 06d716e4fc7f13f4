"""What trials measure: windows of a timeline, windows under NVML's eye, and other processes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from asyncpipe.compiler import compile_schedule
from asyncpipe.errors import UsageError
from asyncpipe.ir import Op, TimedAction, TimedRun
from asyncpipe.runtime.backends import Backend
from asyncpipe.runtime.cuda.platform import CudaPlatform
from asyncpipe.runtime.cuda.recording.cuda import RecordingCuda
from asyncpipe.runtime.platform import Platform
from asyncpipe.schedule import load
from asyncpipe.tools.nvml import Gpu, GpuSnapshot, MissingGpu, MissingNvml
from asyncpipe.tools.tune.layer_costs import op_seconds
from asyncpipe.tools.tune.measuring import measure
from asyncpipe.tools.tune.neighbours import Neighbours, busy_seconds
from asyncpipe.tools.tune.objective import Objective, read_objective
from asyncpipe.tools.tune.request import Request
from asyncpipe.tools.tune.statistics import Interval
from asyncpipe.tools.tune.windows import by_the_clock, by_the_timeline
from tests.runtime.cuda.recorded import fused

__all__ = ["fused"]


def timed(period: float, microbatches: int, slow: Sequence[int] = ()) -> TimedRun:
    """Synchronous SGD on one stage: a forward, a backward and an update fill each period; some take twice as long."""
    program = compile_schedule(load("sgd"), 1).program(microbatches)
    actions, now = [], 0.0
    for launch in program.launches(0):
        share = {Op.F: 0.3, Op.B: 0.6, Op.U: 0.1}[launch.action.op] * period
        end = now + share * (2 if launch.action.index in slow else 1)
        actions.append(TimedAction(0, 0, launch.action, now, end, 0))
        now = end
    return TimedRun(program, actions)


def test_windows_of_a_steady_timeline_are_its_throughput() -> None:
    assert by_the_timeline(timed(0.01, 30), batch=32, windows=5) == pytest.approx([3200.0] * 5)


def test_what_fills_and_drains_the_pipeline_is_in_no_window() -> None:
    assert by_the_timeline(timed(0.01, 30, slow=[0, 29]), batch=32, windows=5) == pytest.approx([3200.0] * 5)


def test_disturbance_is_in_one_window_only() -> None:
    found = by_the_timeline(timed(0.01, 30, slow=[12]), batch=32, windows=5)
    assert sum(speed < 3100 for speed in found) == 1


def test_times_of_ops_are_medians_of_each_stage() -> None:
    found = op_seconds(timed(0.01, 9, slow=[3]))
    assert found == {"F": [pytest.approx(0.003)], "B": [pytest.approx(0.006)], "U": [pytest.approx(0.001)]}


class Throttled(MissingGpu):
    """A GPU that is hot in its second window: every look says why the clocks are low."""

    def __init__(self) -> None:
        super().__init__(0, MissingNvml("none").missing)
        self.is_hot = False

    def read(self) -> GpuSnapshot:
        values = {**vars(super().read()), "throttle_reasons": ("hardware thermal slowdown",) if self.is_hot else ()}
        return GpuSnapshot(**values)


class OneGpu(MissingNvml):
    def __init__(self, gpu: Gpu) -> None:
        super().__init__("only what the test says")
        self.only = gpu

    def gpu(self, ordinal: int) -> Gpu:
        return self.only


def test_windows_in_which_the_gpu_was_throttled_are_dropped() -> None:
    gpu = Throttled()
    heat = iter([False, True, False])

    def fit() -> float:
        gpu.is_hot = next(heat)
        time.sleep(0.25)  # the sampler looks every 0.2 s at most
        return 0.5

    found = by_the_clock(fit, 64, 3, OneGpu(gpu), period=0.05)
    assert (found["speeds"], found["throttled"]) == ([128.0, 128.0], 1)
    assert found["gpu"]["throttle_reasons"].keys() == {"hardware thermal slowdown"}


def test_without_nvml_every_window_counts_and_the_reason_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    found = by_the_clock(lambda: 0.5, 64, 2, MissingNvml("no library"))
    assert (found["speeds"], found["throttled"]) == ([128.0, 128.0], 0)
    assert found["gpu"]["throttled"] is None
    assert capsys.readouterr().err.count("no library") == 1


STAT = """\
cpu  30 0 30 900 0 0 0 0 0 0
cpu0 100 20 30 4000 5 6 7 8 9 0
cpu1 1000 0 0 400 0 0 0 0 0 0
intr 5
"""


def test_time_of_cores_is_all_but_idle_and_waiting_for_disks() -> None:
    ticks = os.sysconf("SC_CLK_TCK")
    assert busy_seconds(STAT, {0}) == (100 + 20 + 30 + 6 + 7 + 8) / ticks
    assert busy_seconds(STAT, {0, 1}) == (171 + 1000) / ticks
    assert busy_seconds(STAT, {2}) is None
    assert busy_seconds("", {0}) is None


def test_own_work_is_no_neighbours() -> None:
    with Neighbours() as neighbours:
        sum(range(10**6))
    assert neighbours.others is None or neighbours.others >= 0


def test_objective_is_throughput_or_a_loss() -> None:
    assert read_objective("samples/s") == Objective()
    assert read_objective("time-to-loss=0.25") == Objective(0.25)
    for text in ("time-to-loss=", "time-to-loss=nan", "time-to-loss=inf", "loss=1", "time-to-loss=0"):
        with pytest.raises(UsageError, match="expected samples/s, or a loss to reach"):
            read_objective(text)


def test_time_is_the_inverse_of_a_speed_and_so_are_its_bounds() -> None:
    assert Objective(0.5).shown(Interval(0.25, 0.2, 0.5)) == Interval(4.0, 2.0, 5.0)
    assert Objective(0.5).shown(Interval(0.25)) == Interval(4.0)
    assert Objective().shown(Interval(0.25, 0.2, 0.5)) == Interval(0.25, 0.2, 0.5)


MLP = ("job.model={use: mlp, hidden: [16]}", "job.train.batch=64", "job.optimizer.lr=0.1")


def test_profile_knows_each_layer_and_the_whole() -> None:
    asked = Request("costs", "async-lu", MLP, tuned="async-lu", seconds=0.01, warm_up=0.0, thread_counts=(1,))
    found = json.loads(json.dumps(measure(asked)))
    assert [layer["parameters"] for layer in found["layers"]] == [65 * 16, 17 * 10]
    assert {op: len(times) for op, times in found["alone"]["1"]["layers"].items()} == {"F": 2, "B": 2, "U": 2}
    assert {op: len(times) for op, times in found["alone"]["1"]["whole"].items()} == {"F": 1, "B": 1, "U": 1}
    assert set(found["together"]) == {"F", "B", "U"}
    assert (found["cut"], found["batch"], found["splits"]) == ([2], 64, False)


def test_time_to_a_loss_lies_between_two_evaluations() -> None:
    asked = Request("loss", "sgd", MLP, tuned="sgd", target=1.5)
    found = measure(asked)
    assert found["loss"] <= 1.5
    assert [seconds > 0 for seconds in found["speeds"]] == [True]
    with pytest.raises(UsageError, match=r"the test loss is 2\.3"):
        measure(Request("loss", "sgd", MLP, tuned="sgd", target=9.0))


def test_loss_that_is_never_reached_gives_no_time() -> None:
    asked = Request("loss", "sgd", (*MLP, "job.train.epochs=1"), tuned="sgd", target=1e-9)
    assert measure(asked)["speeds"] == []


@pytest.mark.slow
def test_tuning_that_was_killed_goes_on_and_its_trial_ends(tmp_path: Path) -> None:
    """SIGKILL after the first trials: no line is lost or repeated, and no process stays."""
    command = [sys.executable, "-m", "asyncpipe", "tools", "tune", "async-lu", "--seconds", "0.05", "--best", "1"]
    command += ["--repeats", "2", "--space", "stages=1", *(word for text in MLP for word in ("-o", text))]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[3])}
    file = tmp_path / "runs" / "tune-async-lu-digits" / "trials.jsonl"
    with subprocess.Popen(command, cwd=tmp_path, env=environment, stderr=subprocess.PIPE, text=True) as first:
        assert first.stderr is not None
        while "round 1 of 2: sgd" not in first.stderr.readline():
            assert first.poll() is None
        first.send_signal(signal.SIGKILL)
    before = file.read_text()
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert file.read_text().startswith(before)
    keys = [json.dumps(json.loads(line)["key"], sort_keys=True) for line in file.read_text().splitlines()]
    assert len(keys) == len(set(keys))
    assert "best: " in done.stdout


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["streams", "graph"])
@pytest.mark.usefixtures("fused")
def test_trial_on_a_gpu_takes_whole_runs_as_windows(backend: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """On the recording of CUDA, whose speed means nothing."""

    def recorded(name: str, *more: Any) -> tuple[Platform, Backend]:
        platform = CudaPlatform(RecordingCuda(), name == "graph", torch.device("cpu"), *more)
        return platform, platform.run

    monkeypatch.setattr("asyncpipe.training.trainer.choose_backend", recorded)
    properties = SimpleNamespace(multi_processor_count=132)
    monkeypatch.setattr("torch.cuda.get_device_properties", lambda device: properties)
    asked = Request("speed", "sgd", MLP, tuned="sgd", backend=backend, period=2, seconds=0.01, warm_up=0.0, windows=1)
    found = measure(asked)
    assert (len(found["speeds"]), found["throttled"], found["other_processes"]) == (1, 0, None)
    assert "sampler" in found["gpu"]
    whole = measure(replace(asked, kind="costs", thread_counts=(1,)))
    assert (whole["together"], whole["alone"]["1"]["layers"], whole["multiprocessors"]) == (None, None, 132)
    assert whole["alone"]["1"]["whole_s"] > 0

"""Frames of watched runs, whole: fixed clock, fixed width, a stand-in for NVML's module."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from asyncpipe.tools.nvml import Nvml, open_nvml
from asyncpipe.tools.watch.curve import Curve, chart
from asyncpipe.tools.watch.frame import frame
from asyncpipe.tools.watch.gpus import RunGpus
from asyncpipe.tools.watch.line import document, line
from asyncpipe.tools.watch.watched import Look, Watched
from asyncpipe.tools.watch.words import span
from tests.tools.nvml.fake_pynvml import GPU_IS_LOST, LIBRARY_NOT_FOUND, Error, FakePynvml, hopper
from tests.tools.watch.folders import STARTED, add_rows, rows, write_run

EVALUATION = {"kind": "evaluation", "attempt": 1, "step": 200, "samples": 6400, "train_s": 4.0, "virtual_time": None}
EVALUATION |= {"loss": 0.25, "accuracy": 0.9175}
STALENESS = {"kind": "staleness", "attempt": 1, "step": 200, "samples": 6400}
STALENESS |= {"histogram": [{"0": 10, "1": 40, "2": 150}, {"0": 100, "1": 100}]}
STREAMS = {"kind": "streams", "attempt": 1, "step": 200, "seconds": 2.0, "busy_s": [1.5, 1.0, 0.5]}
DIVERGENCE = {"kind": "divergence", "attempt": 1, "step": 9, "microbatch": 9, "stage": 0, "staleness": 2}


def looked(folder: Path, gpus: RunGpus | None = None) -> Look:
    """A minute after the run began."""
    return Watched(folder, gpus, lambda: STARTED + 60).look()


def text(folder: Path, gpus: RunGpus | None = None, width: int = 100, braille: bool = False) -> str:
    return "".join(f"{line}\n" for line in frame(looked(folder, gpus), width, braille))


BUSY = """\
async-lu on digits: threads, 2 stages, seed 3 (run)
running       process PID; began 1 min 0 s ago; last row 2.0 s ago
microbatches  200 of 1,000 (20%), 200 updates, 6,400 samples
speed         1,600 samples/s over the last 4.0 s of training; 16 s of it left
loss          0.2007, mean of the last 20; lr 0.1
      4.0000 |**
             | **
             |   ***
             |      ********
      0.1918 |              ******************************************************************
evaluation    test loss 0.2500, test accuracy 91.75 % after 6,400 samples
streams       busy
  forward      75.0%  ######################........
  backward[0]  50.0%  ###############...............
  backward[1]  25.0%  ########......................
staleness     in updates, by share of microbatches
  stage 0     0: 5.0%  1: 20.0%  2: 75.0%
  stage 1     0: 50.0%  1: 50.0%
gpu           none used by threads
"""
YOUNG = """\
async-lu on digits: threads, 2 stages, 2 replicas, seed 3 (run)
running       process PID; began 1 min 0 s ago; last row 2.0 s ago
microbatches  0 of 1,000 (0%), 0 updates, 0 samples
speed         not known before the second microbatch
loss          not known before the first microbatch
evaluation    none yet
streams       not timed: `asyncpipe run --timed` writes how busy they are
staleness     not known before the first evaluation
gpu           none used by threads
"""
WITHOUT_PLAN = """\
run
unknown       no run.json: it has just begun, or an older version made it; last row 2.0 s ago
microbatches  2, 2 updates, 64 samples
speed         1,600 samples/s over the last 0.0 s of training
loss          3.8182, mean of the last 2; lr 0.1
      4.0000 |*
             |*
             |*
             |*
      3.6364 |*
evaluation    none yet
streams       not timed: `asyncpipe run --timed` writes how busy they are
staleness     not known before the first evaluation
gpu           not known which the run uses
damaged       2 rows left out
"""


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return Path("run")


def without_number(shown: str) -> str:
    """This process has another number each time."""
    return re.sub(r"process \d+", "process PID", shown)


def test_a_running_job_is_shown_whole(run: Path) -> None:
    write_run(run, *rows(200), EVALUATION, STALENESS, STREAMS)
    assert without_number(text(run)) == BUSY


def test_a_run_without_a_row_says_what_is_missing(run: Path) -> None:
    write_run(run, replicas=2)
    assert without_number(text(run)) == YOUNG


def test_a_run_of_an_older_version_has_no_plan(run: Path) -> None:
    write_run(run, *rows(2), {"kind": "microbatch"}, {"no": "kind"})
    (run / "run.json").unlink()
    assert text(run) == WITHOUT_PLAN


def test_no_line_is_longer_than_the_width(run: Path) -> None:
    write_run(run, *rows(200), EVALUATION, STALENESS, STREAMS, job="a-job-with-a-very-long-name" * 3)
    lines = text(run, width=60).splitlines()
    assert max(map(len, lines)) == 60
    assert len(lines) == len(BUSY.splitlines())


def test_staleness_is_that_of_measured_microbatches_before_the_first_evaluation(run: Path) -> None:
    write_run(run, *rows(10), DIVERGENCE, DIVERGENCE | {"staleness": 1}, DIVERGENCE | {"stage": 1, "staleness": 0})
    assert (
        "staleness     in updates, by share of microbatches, of the microbatches measured\n"
        "  stage 0     1: 50.0%  2: 50.0%\n"
        "  stage 1     0: 100.0%\n"
    ) in text(run)


def test_of_many_streams_and_stages_the_first_are_shown(run: Path) -> None:
    streams = [f"s[{i}]" for i in range(14)]
    histogram = [{"0": 1}] * 9
    write_run(run, STALENESS | {"histogram": histogram}, STREAMS | {"busy_s": [1.0] * 14}, streams=streams)
    shown = text(run)
    assert "  s[11]        50.0%  ###############...............\n  ... and 2 streams more\n" in shown
    assert "  stage 7     0: 100.0%\n  ... and 1 stage more\n" in shown


def connected(fake: FakePynvml) -> RunGpus:
    def connect(uuids: Sequence[str]) -> Nvml:
        return open_nvml(uuids, pynvml=fake, environment={}, clock=lambda: 0.0)

    return RunGpus(connect)


def test_gpus_are_those_of_the_run_whatever_their_order_is_here(run: Path) -> None:
    fake = FakePynvml(hopper("GPU-a", PowerUsage=100_000), hopper("GPU-b", CurrentClocksEventReasons=0x40))
    write_run(run, backend="graph", gpus=["GPU-b", "GPU-a"])
    with connected(fake) as gpus:
        watched = Watched(run, gpus, lambda: STARTED + 60)
        watched.look()
        shown = frame(watched.look(), 100)[-3:]
        assert fake.connections == 1
    assert fake.connections == 0
    assert shown == [
        "cuda:0        any kernel 100%; 30.0 of 80.0 GiB, 500 W, 1980 MHz, 61 C",
        "              slowed: hardware thermal slowdown",
        "cuda:1        any kernel 100%; 30.0 of 80.0 GiB, 100 W, 1980 MHz, 61 C",
    ]


def test_a_gpu_that_is_lost_in_the_middle_says_so_and_the_rest_goes_on(run: Path) -> None:
    fake = FakePynvml(hopper("GPU-a"))
    write_run(run, *rows(2), backend="graph", gpus=["GPU-a"])
    now = [STARTED + 60]
    with connected(fake) as gpus:
        watched = Watched(run, gpus, lambda: now[0])
        assert "100%" in frame(watched.look())[-1]
        fake.gpus[0].is_lost = True
        now[0] += 2
        add_rows(run, *rows(2, 2))
        lost = frame(watched.look())
    assert lost[-1].startswith("cuda:0        no readings: ")
    assert lost[2].startswith("microbatches  4 of 1,000")


@pytest.mark.parametrize("failure", [LIBRARY_NOT_FOUND, GPU_IS_LOST])
def test_without_nvml_the_reason_stands_in_the_place_of_readings(run: Path, failure: int) -> None:
    write_run(run, backend="graph", gpus=["GPU-a"])
    with connected(FakePynvml(init=Error(failure))) as gpus:
        look = looked(run, gpus)
        last = frame(look)[-1]
        assert last.startswith("cuda:0        no readings: ")
        assert len(last) > len("cuda:0        no readings: ")
        assert document(look)["gpus"][0]["power_watts"] is None


def test_a_line_tells_the_same_in_short(run: Path) -> None:
    write_run(run, *rows(200), EVALUATION)
    expected = "200 of 1,000 microbatches, loss 0.2007, 1,600 samples/s, 16 s left, test accuracy 91.75 %"
    assert line(looked(run)) == f"running: {expected}"


def test_the_document_has_reasons_for_what_is_null(run: Path) -> None:
    write_run(run, *rows(1), {**next(rows(1, 1)), "loss": float("nan")}, EVALUATION | {"loss": float("inf")})
    found: dict[str, Any] = json.loads(json.dumps(document(looked(run)), allow_nan=False))
    assert (found["schema"], found["state"], found["run"]) == ("asyncpipe.watch/1", "running", "run")
    assert (found["microbatches"], found["microbatches_planned"], found["samples"]) == (2, 1000, 64)
    assert (found["elapsed_s"], found["last_row_s"], found["samples_per_s"]) == (60.0, 2.0, pytest.approx(1600))
    assert found["evaluation"]["loss"] is found["loss"] is None
    assert found["unavailable"].keys() == {"loss", "staleness", "staleness_sampled", "streams"}
    assert {key for key, value in found.items() if value is None} == {*found["unavailable"], "virtual_time"}


@pytest.mark.parametrize(
    "row",
    [
        {"kind": "microbatch"},
        DIVERGENCE | {"stage": -1},
        DIVERGENCE | {"stage": 10**12},
        DIVERGENCE | {"staleness": float("inf")},
        STALENESS | {"histogram": [{"one": 1}]},
        STREAMS | {"busy_s": None},
    ],
)
def test_a_row_with_values_that_cannot_be_is_counted_as_damaged(run: Path, row: dict[str, Any]) -> None:
    write_run(run, *rows(2), row, *rows(1, 2))
    look = looked(run)
    assert (look.damaged, look.seen.microbatches, len(look.seen.sampled)) == (1, 3, 0)


def test_speed_is_that_of_the_last_ten_seconds(run: Path) -> None:
    slow = [row | {"train_s": 4 + 100 * (i + 1) / 50} for i, row in enumerate(rows(20, 200))]
    write_run(run, *rows(200), *slow)
    look = looked(run)
    assert look.seen.samples_per_s == pytest.approx(16)
    assert look.seen.window_s == pytest.approx(10)


def test_streams_are_those_of_the_last_ten_seconds(run: Path) -> None:
    write_run(run, *[STREAMS] * 9, *[STREAMS | {"busy_s": [2.0, 0.0, 1.0]}] * 5)
    assert looked(run).seen.busy == pytest.approx([1.0, 0.0, 0.5])


def test_a_chart_has_the_first_value_left_and_no_gaps() -> None:
    falling = [float(10 - i) for i in range(10)]
    assert list(chart(falling, 5, 3)) == ["⠑⢄", " ⠈⠢⡀", "   ⠘⢄"]
    steep = list(chart([0.0, 0.0, 9.0, 9.0], 8, 2, braille=False))
    assert steep == [" *", "**"]
    assert list(chart([1.0, 1.0, 1.0], 8, 1)) == ["⣀⡀"]


def test_a_long_curve_is_kept_in_bounded_memory_with_its_means() -> None:
    curve = Curve()
    for i in range(100_000):
        curve.add(float(i))
    curve.add(float("nan"))
    points = curve.points(10)
    assert len(points) == 10
    assert points == pytest.approx([5000 + 10_000 * i for i in range(10)], rel=0.02)
    assert len(curve._means) < 1024


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0.04, "0.0 s"), (9.94, "9.9 s"), (9.96, "10 s"), (59.6, "1 min 0 s"), (3700, "1 h 1 min"), (9e5, "10 d 10 h")],
)
def test_times_are_told_with_their_two_largest_parts(seconds: float, words: str) -> None:
    assert span(seconds) == words

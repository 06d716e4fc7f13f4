"""A run that a device timed, on the recording of CUDA, is examined as one that the host timed."""

from __future__ import annotations

from dataclasses import replace

import pytest

from asyncpipe.ir import DeviceClock
from asyncpipe.runtime.cuda.recording.cuda import RecordingCuda
from asyncpipe.runtime.stopwatch import Stopwatch
from asyncpipe.tools.profile.profile import examine
from asyncpipe.tools.profile.report import ProfileReport, Setting, document
from asyncpipe.tools.profile.text import profile_text
from tests.runtime.cuda.recorded import constant_rate, network, pairs, recorded, traced_once

__all__ = ["constant_rate", "traced_once"]

pytestmark = pytest.mark.usefixtures("traced_once", "constant_rate")


def test_its_times_streams_and_clock_are_reported() -> None:
    trainer, _ = recorded(network(2), "async-lu", "graph", RecordingCuda(seed=1), stages=2)
    stopwatch = trainer.stopwatch = Stopwatch()
    trainer.fit(pairs(30))
    (run,) = stopwatch.runs
    run = replace(run, clock=DeviceClock(32e-9, 2e-6, 5e-6))
    streams = len(run.program.streams)
    profile = examine(run, streams, trainer.compiled, staleness=trainer.staleness.summary())
    setting = Setting("async-lu", "digits", "graph", "cuda:0", 0, 4, 1, 0)
    report = ProfileReport(setting, profile, None, 4e-6)
    found = document(report)
    for stream in found["streams"]:
        parts = ("busy_s", "waiting_s", "no_worker_s", "dispatch_s", "ends_s")
        assert sum(stream[part] for part in parts) == pytest.approx(found["wall_s"])
    assert len(found["worker_busy"]) == streams
    assert [sum(counts.values()) for counts in found["staleness"]["histogram"]] == [30, 30]
    assert found["stopwatch"].items() >= {"action_s": 4e-6, "step_s": 32e-9, "between_devices_s": 5e-6}.items()
    last = profile_text(report).splitlines()[-1]
    assert last == "  clock        the device's, in steps of 32.0 ns; two devices agree to 5.00 us"

"""Streams are metered while a run goes, whatever else surrounds it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from asyncpipe import Trainer
from asyncpipe.runtime.stopwatch import Stopwatch
from asyncpipe.training.metered import Metered
from tests.networks import batches, built


def metered(schedule: str, backend: str, **options: Any) -> tuple[Trainer, Metered]:
    trainer = Trainer(built("mlp"), schedule, backend=backend, stages=3, intra_op_threads=1, **options)
    trainer.sessions = found = Metered(trainer.sessions)
    return trainer, found


@pytest.mark.parametrize("backend", ["serial", "threads"])
@pytest.mark.parametrize("schedule", ["async-lu", "lapsgd"])
def test_streams_are_busy_for_as_long_as_their_actions_took(schedule: str, backend: str) -> None:
    stopwatch = Stopwatch()
    trainer, own = metered(schedule, backend, stopwatch=stopwatch)
    assert own.meter.take() is None
    for _ in range(2):
        trainer.fit(batches(24))
        found, timed = own.meter.take(), stopwatch.runs[-1]
        program = timed.program
        working = [i for i, stream in enumerate(program.streams) if not stream.name.startswith("sync")]
        assert found is not None
        assert len(found.busy_s) == len(working)
        for stream, busy in zip(working, found.busy_s, strict=True):
            inside = sum(t.seconds for t in timed.actions if t.stream == stream) / program.replicas
            # The meter stands around the stopwatch, and so sees a little more.
            assert inside <= busy + 1e-9
            assert 0 < busy <= found.seconds
    rest = own.meter.take()
    assert rest is not None
    assert sum(rest.busy_s) == 0.0 < rest.seconds


def test_a_recorded_run_can_be_metered(tmp_path: Path) -> None:
    trainer, own = metered("async-lu", "threads", record=tmp_path / "log")
    trainer.fit(batches(6))
    found = own.meter.take()
    assert found is not None
    assert all(busy > 0 for busy in found.busy_s)
    assert trainer.sessions.words()["record"]["log"] == str(tmp_path / "log")
    assert (tmp_path / "log").read_text().count(" 0F") >= 6

"""The measured timeline: every action once, in the order of its stream, each after what its stream did before."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch
from torch import nn

from asyncpipe import Trainer, load
from asyncpipe.runtime.stopwatch import Stopwatch, TimedRun


def timed(schedule: str, backend: str, microbatches: int = 6) -> list[TimedRun]:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 3))
    batches = [(torch.randn(2, 4), torch.tensor([0, 2]))] * microbatches
    stopwatch = Stopwatch()
    trainer = Trainer(
        model, load(schedule, ["phases="]), backend=backend, stages=3, intra_op_threads=1, stopwatch=stopwatch
    )
    trainer.fit(batches)
    trainer.fit(batches)
    return stopwatch.runs


@pytest.mark.parametrize("backend", ["serial", "threads"])
@pytest.mark.parametrize("schedule", ["async-lu", "lapsgd"])
def test_every_action_is_timed_once_in_the_order_of_its_stream(backend: str, schedule: str) -> None:
    runs = timed(schedule, backend)
    assert len(runs) == 2
    for run in runs:
        program = run.program
        planned = [[launch.action for launch in program.launches(stream)] for stream in range(len(program.streams))]
        for replica in range(program.replicas):
            for stream, actions in enumerate(planned):
                found = [timed for timed in run.actions if (timed.replica, timed.stream) == (replica, stream)]
                assert [timed.action for timed in found] == actions
                assert all(before.end <= after.begin for before, after in pairwise(found))
        assert all(0 <= timed.begin <= timed.end for timed in run.actions)


def test_serial_has_one_worker() -> None:
    assert {timed.worker for run in timed("async-lu", "serial") for timed in run.actions} == {0}

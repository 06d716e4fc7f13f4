"""The measured timeline on a device: its own clock, in eager launches and in every launch of a graph."""

from __future__ import annotations

import pytest

from asyncpipe import Trainer
from asyncpipe.errors import MachineError
from asyncpipe.ir import TimedRun
from asyncpipe.runtime.stopwatch import Stopwatch
from asyncpipe.schedule import Schedule, load
from tests.networks import batches, built
from tests.stamped import disobeyed, missing

pytestmark = pytest.mark.cuda

SGD = {"use": "sgd", "lr": 0.05, "momentum": 0.9}
BACKENDS = ["streams", "graph"]


def timed(schedule: str | Schedule, backend: str, microbatches: int, emulate: bool = True) -> TimedRun:
    """The second run: the first one loads kernels and captures."""
    trainer = Trainer(built("mlp"), schedule, optimizer=SGD, backend=backend, stages=2, emulate=emulate)
    trainer.fit(batches(microbatches))
    stopwatch = trainer.stopwatch = Stopwatch()
    trainer.fit(batches(microbatches))
    trainer.fit(batches(microbatches))
    return stopwatch.runs[-1]


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("name", ["sgd", "async-lu", "async-bu", "pipedream", "fdg", "ddp"])
def test_every_action_is_stamped_and_no_edge_is_disobeyed(name: str, backend: str) -> None:
    run = timed(name, backend, 240)
    assert (missing(run), disobeyed(run)) == ([], [])


def test_the_clock_is_fine_enough_to_time_kernels() -> None:
    """Half of the actions at least take more than a step of it."""
    run = timed("async-lu", "graph", 240)
    assert run.clock is not None
    assert 0 < run.clock.step <= 2e-6
    seconds = sorted(each.seconds for each in run.actions)
    assert seconds[len(seconds) // 2] > run.clock.step


@pytest.mark.parametrize("backend", BACKENDS)
def test_stamps_show_the_multiprocessors_of_a_share(backend: str) -> None:
    schedule = load("async-lu", ["streams.forward.sms=64", "streams.backward.sms=16"])
    try:
        run = timed(schedule, backend, 120)
    except MachineError as error:
        pytest.skip(str(error))
    places: dict[str, set[int]] = {}
    for each, found in zip(run.actions, run.multiprocessors, strict=True):
        places.setdefault(run.program.streams[each.stream].name, set()).update(found)
    own = [places[name] for name in ("forward", "backward[0]", "backward[1]")]
    assert sum(map(len, own)) == len(set().union(*own))


@pytest.mark.multi_gpu
@pytest.mark.parametrize("backend", BACKENDS)
def test_clocks_of_two_devices_agree_on_transfers(backend: str) -> None:
    run = timed("pipedream", backend, 120, emulate=False)
    assert (missing(run), disobeyed(run)) == ([], [])
    assert run.clock is not None
    assert run.clock.between_devices < 1e-3

"""Time stamps on the recording runtime, where the host stands in for the device's clock: the timeline is what ran."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import Literal

import pytest
import torch

from asyncpipe.compiler import compile_schedule
from asyncpipe.errors import InternalError
from asyncpipe.ir import Action, DeviceClock, Kind, Op, TimedRun
from asyncpipe.kernels.stamps.rows import Stamp
from asyncpipe.runtime.cuda.clocks import Comparison, measure_clock
from asyncpipe.runtime.cuda.device_timeline import DeviceTimeline
from asyncpipe.runtime.cuda.recording.cuda import RecordingCuda
from asyncpipe.runtime.cuda.stamps import Stamped, StampRing
from asyncpipe.runtime.stopwatch import Stopwatch
from asyncpipe.schedule import load
from tests.networks import assert_same_state
from tests.runtime.cuda.recorded import network, pairs, recorded
from tests.stamped import disobeyed, missing

pytestmark = pytest.mark.usefixtures("traced_once_each", "constant_rate")

CPU = torch.device("cpu")
STAGES = 2


def timed(schedule: str, kind: Literal["streams", "graph"], cuda: RecordingCuda, *counts: int) -> list[TimedRun]:
    """One run for each count of microbatches."""
    one_phase = replace(load(schedule), phases=())
    trainer, _ = recorded(network(STAGES), one_phase, kind, cuda, stages=STAGES)
    stopwatch = trainer.stopwatch = Stopwatch()
    for count in counts:
        trainer.fit(pairs(count))
    return stopwatch.runs


@pytest.mark.parametrize("name", ["async-lu", "lapsgd"])
def test_streams_stamp_every_action_once_and_after_what_it_waits_for(name: str) -> None:
    runs = timed(name, "streams", RecordingCuda(), 24, 8)
    assert len(runs) == 2
    assert [(missing(run), disobeyed(run)) for run in runs] == [([], [])] * 2


@pytest.mark.parametrize(
    ("name", "counts"),
    [
        ("sgd-ready", (16, 8)),
        ("pipedream", (28, 8)),
        pytest.param("async-lu", (90, 60), marks=pytest.mark.slow),
        pytest.param("lapsgd", (384, 60), marks=pytest.mark.slow),
    ],
)
def test_each_launch_of_a_graph_stamps_rows_of_its_own(name: str, counts: tuple[int, int]) -> None:
    """More launches than the ring has rows for, and a second run that begins in the middle of it."""
    cuda = RecordingCuda(seed=4)
    runs = timed(name, "graph", cuda, *counts)
    assert sum(call.startswith("launch") for call in cuda.calls) > 8 + 1
    assert [(missing(run), disobeyed(run)) for run in runs] == [([], [])] * 2


@pytest.mark.parametrize("kind", ["streams", "graph"])
def test_transfers_between_devices_are_stamped_too(kind: Literal["streams", "graph"]) -> None:
    (run,) = timed("pipedream", kind, RecordingCuda(devices=2, seed=1), 14)
    assert run.clock is not None
    assert 0 < run.clock.between_devices < 0.1
    assert Counter(each.action.op for each in run.actions)[Op.SEND_F] == 14
    assert (missing(run), disobeyed(run)) == ([], [])


def test_stamps_tell_the_order_that_was_run_and_not_that_of_issue() -> None:
    """Nodes run in an order that a seed draws: a wait that the program does not have would be disobeyed."""
    (run,) = timed("hogwild", "graph", RecordingCuda(seed=3), 24)
    lines = list(run.program.instructions())
    issued = {(line.stream, line.action): at for at, line in enumerate(lines) if line.kind is Kind.LAUNCH}
    begun = [issued[each.stream, each.action] for each in sorted(run.actions, key=lambda each: each.begin)]
    assert sorted(begun) != begun
    assert disobeyed(run) == []


def test_workers_are_the_streams_of_all_replicas() -> None:
    (run,) = timed("lapsgd", "streams", RecordingCuda(), 8)
    streams = len(run.program.streams)
    assert {each.worker for each in run.actions} >= {0, streams}
    assert all(each.worker == each.replica * streams + each.stream for each in run.actions)


def test_a_timed_graph_trains_to_the_same_bits_with_two_nodes_more_for_each_action() -> None:
    model, plain = network(STAGES), network(STAGES)
    nodes = []
    for trained, stopwatch in ((model, Stopwatch()), (plain, None)):
        trainer, platform = recorded(trained, "pipedream", "graph", RecordingCuda(seed=2), stages=STAGES)
        trainer.stopwatch = stopwatch
        trainer.fit(pairs(16))
        graph = platform.facts["graph"]
        nodes.append(graph["nodes"])
    assert_same_state(model, plain)
    forward, backward, update = (STAGES * graph["period"] for _ in range(3))
    sends = 2 * (STAGES - 1) * graph["period"]
    assert nodes[0] - nodes[1] == 2 * (forward + backward + update + sends)


def test_a_graph_is_captured_anew_when_a_stopwatch_comes_or_goes() -> None:
    trainer, platform = recorded(network(STAGES), "sgd-ready", "graph", RecordingCuda(), stages=STAGES)
    found = []
    for stopwatch in (None, Stopwatch(), None):
        trainer.stopwatch = stopwatch
        trainer.fit(pairs(6))
        found.append(platform.facts["graph"]["nodes"])
        if stopwatch is not None:
            assert missing(stopwatch.runs[0]) == []
    assert found[0] == found[2] < found[1]


def rung(cuda: RecordingCuda, timeline: DeviceTimeline, launches: int, depth: int = 2) -> StampRing:
    """A graph with one stamped action, launched so often."""
    stream = cuda.stream(0)
    ring = StampRing(cuda, stream, CPU, 1, depth)
    with cuda.on(stream), ring.around(0):  # a kernel is loaded before it is captured
        pass
    with cuda.capture(stream) as graph, cuda.on(stream), ring.around(0):
        pass
    for number in range(launches):
        cuda.launch(graph, stream)
        ring.turn(lambda number=number: [Stamped(0, 0, Action(0, Op.F, number), 0)], timeline)  # type: ignore[misc]
    return ring


class _Arrived(DeviceTimeline):
    def __init__(self) -> None:
        self.found: list[tuple[int, int, int]] = []

    def arrived(self, stamped: Stamped, first: Stamp, last: Stamp) -> None:
        assert first.nanoseconds <= last.nanoseconds
        self.found.append((stamped.action.index, first.launch, last.launch))


def test_a_ring_that_is_full_is_sent_before_it_is_written_again() -> None:
    arrived = _Arrived()
    ring = rung(RecordingCuda(), arrived, 5)
    ring.read()
    assert arrived.found == [(number, number, number) for number in range(4)]
    ring.send()
    ring.read()
    assert arrived.found == [(number, number, number) for number in range(5)]


def test_a_row_of_another_launch_is_an_error() -> None:
    cuda, arrived = RecordingCuda(), _Arrived()
    ring = rung(cuda, arrived, 1)
    with cuda.on(ring.stream):
        ring.rows.launch.add_(1)
        with ring.around(0):
            pass
    ring.send()
    with pytest.raises(InternalError, match=r"time stamps of 0F0: expected those of launch 0, found those of \{2\}"):
        ring.read()


def test_a_chain_of_stamps_measures_the_clock() -> None:
    cuda = RecordingCuda()
    for in_graph in (False, True):
        clock = measure_clock(cuda, cuda.stream(0), 0, in_graph)
        assert 0 < clock.step <= clock.stamp < 0.1


def test_clocks_of_two_devices_are_set_by_that_of_the_host() -> None:
    """The second one began at another number, and runs twice as fast."""
    program = compile_schedule(load("pipedream"), STAGES).program(4)
    timeline = DeviceTimeline(program, (0, 1), DeviceClock(1e-9, 1e-6))
    timeline._begins = {0: Comparison(5_000, 1_000.0, 4.0), 1: Comparison(70_000, 1_500.0, 2.0)}
    timeline._ends = {0: Comparison(15_000, 11_000.0, 1.0), 1: Comparison(90_000, 11_500.0, 3.0)}
    for at, begin, end in ((0, 6_500, 7_500), (1, 72_000, 74_000)):
        timeline.arrived(Stamped(0, at, Action(0, Op.F, at), at), Stamp(0, begin, 7), Stamp(0, end, 8))
    run = timeline.timed_run
    assert [(each.begin, each.end) for each in run.actions] == [pytest.approx((1e-6, 2e-6))] * 2
    assert run.clock is not None
    assert run.clock.between_devices == pytest.approx(7e-9)
    assert run.multiprocessors == [(7, 8), (7, 8)]

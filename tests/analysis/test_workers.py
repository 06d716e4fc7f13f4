"""A program on few workers: against the exact simulator, against the real dispatcher, and by hand."""

from __future__ import annotations

import heapq
import random
from collections.abc import Mapping

import pytest

import asyncpipe.analysis.workers as workers_module
import asyncpipe.runtime.dispatcher as dispatcher_module
from asyncpipe.analysis.asap import earliest_times
from asyncpipe.analysis.launch_graph import LaunchGraph, finite_graph
from asyncpipe.analysis.prediction import (
    microbatch_ends,
    microbatches_for,
    predict,
    predict_drawn,
    steady_edges,
    steady_period,
)
from asyncpipe.analysis.timing import Timing, replica_classes, ticks
from asyncpipe.analysis.workers import Times, WorkerRun, Workers, run_on_workers
from asyncpipe.errors import UsageError
from asyncpipe.ir import Action, Op, Program
from asyncpipe.runtime.dispatcher import Dispatcher, Work
from asyncpipe.schedule import library
from tests.pictures.timelines import compiled, program

FEW = ("async-lu", "1f1b", "zb-h1", "ddp", "layup", "hogwild", "lapsgd")
MICROBATCHES = 12


def finite(name: str, stages: int = 4) -> Program:
    return compiled((name,), stages).program(MICROBATCHES)


def own_costs(graph: LaunchGraph) -> list[int]:
    """In ticks."""
    return [graph.program.costs[op][stage] for op, stage in graph.keys]


def assert_same_as_simulated(planned: Program) -> None:
    graph = finite_graph(planned)
    classes = replica_classes(planned, Timing())
    exact = ticks(graph, Timing(), classes)
    run = run_on_workers(graph, own_costs(graph), Workers(len(planned.streams) * planned.replicas))
    scale = planned.unit / exact.unit
    for members, times in zip(classes, earliest_times(graph, exact), strict=True):
        for replica in members:
            assert [start * scale for start in run.starts[replica]] == times.starts
            assert [end * scale for end in run.ends[replica]] == times.ends


@pytest.mark.parametrize("name", FEW)
def test_with_a_worker_for_each_stream_times_are_those_of_the_simulator(name: str) -> None:
    assert_same_as_simulated(finite(name))


@pytest.mark.slow
@pytest.mark.parametrize("name", list(library()))
def test_with_a_worker_for_each_stream_the_whole_library_is_as_simulated(name: str) -> None:
    assert_same_as_simulated(finite(name))


class Clock:
    """The real dispatcher in virtual time: an action takes what `seconds` says, and nothing else takes time."""

    def __init__(self, planned: Program, workers: int, seconds: Mapping[Action, float]) -> None:
        self.dispatcher = Dispatcher(planned, workers)
        self.streams, self.seconds = len(planned.streams), seconds
        self.idle = list(range(workers))
        self.running: list[tuple[float, int, Work]] = []
        self.ends: dict[tuple[int, Action], float] = {}

    def run(self) -> dict[tuple[int, Action], float]:
        self.call(0.0)
        while self.running:
            now, worker, work = heapq.heappop(self.running)
            self.ends[work[0] // self.streams, work[1]] = now
            following = self.dispatcher.finish(work)
            if following is None:
                self.idle.append(worker)
            else:
                self.start(now, worker, following)
            self.call(now)
        return self.ends

    def call(self, now: float) -> None:
        """A worker that finds nothing would block this only thread, so that none is called in vain."""
        while self.idle and self.dispatcher._ready:
            worker = self.idle.pop(0)
            work = self.dispatcher.take(worker)
            assert work is not None
            self.start(now, worker, work)

    def start(self, now: float, worker: int, work: Work) -> None:
        heapq.heappush(self.running, (now + self.seconds[work[1]], worker, work))


@pytest.mark.parametrize("name", FEW)
@pytest.mark.parametrize("workers", [1, 2, 3])
def test_replay_hands_out_actions_as_the_dispatcher_does(name: str, workers: int) -> None:
    planned = finite(name)
    graph, chance = finite_graph(planned), random.Random(f"{name} {workers}")
    by_key = [chance.uniform(1, 2) for _ in graph.keys]
    run = run_on_workers(graph, by_key, Workers(workers))
    seconds = {graph.action(launch): by_key[graph.key[launch]] for launch in range(len(graph))}
    real = Clock(planned, workers, seconds).run()
    assert {(replica, action): end for (replica, action), end in ends_of(run).items() if (replica, action) in real} == (
        pytest.approx(real)
    )
    # A SYNC at which replicas meet runs once, under the name of one of them.
    assert len(real) >= len(graph)


def test_urgency_is_the_dispatchers() -> None:
    assert workers_module._URGENCY == dispatcher_module._RANK


def ends_of(run: WorkerRun) -> dict[tuple[int, Action], float]:
    return {(r, run.graph.action(i)): end for r, ends in enumerate(run.ends) for i, end in enumerate(ends)}


def two_streams() -> LaunchGraph:
    """0F0 and 0F1 on one stream, 0B0 and 0B1 on another that waits for each."""
    lines = ("f launch 0F0", "f record 0F0", "b wait 0F0", "b launch 0B0")
    more = ("f launch 0F1", "f record 0F1", "b wait 0F1", "b launch 0B1")
    return finite_graph(program(*lines, *more, streams=("f device 0 runs F", "b device 0 runs B")))


def spans(run: WorkerRun) -> dict[str, tuple[float, float, int]]:
    values = zip(run.starts[0], run.ends[0], run.workers[0], strict=True)
    return {str(run.graph.action(launch)): value for launch, value in enumerate(values)}


def test_one_worker_takes_backwards_before_forwards() -> None:
    found = spans(run_on_workers(two_streams(), [1, 2], Workers(1)))
    assert found == {"0F0": (0, 1, 0), "0B0": (1, 3, 0), "0F1": (3, 4, 0), "0B1": (4, 6, 0)}


def test_worker_that_goes_on_and_worker_that_is_called_have_their_own_overheads() -> None:
    found = spans(run_on_workers(two_streams(), [10, 20], Workers(2, hand_over=1, wake=3)))
    assert found == {"0F0": (3, 13, 0), "0B0": (14, 34, 0), "0F1": (16, 26, 1), "0B1": (35, 55, 0)}


def test_actions_beside_each_other_take_longer_by_the_slowdown() -> None:
    found = spans(run_on_workers(two_streams(), [4, 4], Workers(2, slowdown=(1.0, 2.0))))
    assert found == {"0F0": (0, 4, 0), "0B0": (4, 12, 0), "0F1": (4, 12, 1), "0B1": (12, 16, 0)}


def test_prediction_is_the_period_of_the_plan_where_workers_suffice() -> None:
    found = compiled(("async-lu",), 4)
    planned = found.program(microbatches_for(found.program(), 10))
    costs = {Op.F: 0.001, Op.B: 0.002, Op.U: 0.0}
    assert predict(planned, lambda op, _: costs[op], Workers(3)).period == pytest.approx(0.001 * float(found.period))
    shared = predict(planned, lambda op, _: costs[op], Workers(2))
    assert shared.period == pytest.approx(0.001 * 12 / 2, rel=0.01)
    assert min(shared.utilisation) > 0.95


def test_period_is_that_of_the_steady_part() -> None:
    planned = compiled(("pipedream",), 4).program(40)
    fill = planned.start + planned.step
    ends = [3.0 * i if i < fill else 3.0 * fill + (i - fill) for i in range(40)]
    assert steady_period(ends, planned) == 1.0


def test_times_that_vary_make_what_waits_for_several_slower() -> None:
    """Two replicas that meet: the mean of the slower of two is 1.5, where each alone takes 1 on average."""
    planned = compiled(("ddp", "replicas.count=2"), 1).program(200)
    times = Times({(Op.F, 0): [0.0, 2.0]})
    workers = Workers(len(planned.streams) * 2)
    assert predict(planned, times.mean, workers).period == pytest.approx(1.0)
    assert predict_drawn(planned, times, workers).period == pytest.approx(1.5, rel=0.1)


def test_times_that_do_not_vary_are_drawn_as_they_are() -> None:
    planned = compiled(("async-lu",), 4).program(40)
    times = Times({(Op.F, s): [1.0] for s in range(4)} | {(Op.B, s): [2.0] for s in range(4)}, [0.1], [0.2])
    fixed = predict(planned, times.mean, times.means(2))
    assert predict_drawn(planned, times, times.means(2)).period == pytest.approx(fixed.period)
    assert fixed.period > 6.0


def test_long_run_is_predicted_from_a_part_of_it() -> None:
    planned = compiled(("async-lu",), 4).program(100_000)
    times = Times({(Op.F, s): [1.0] for s in range(4)} | {(Op.B, s): [2.0] for s in range(4)})
    found = predict_drawn(planned, times, Workers(3), draws=1)
    assert found.period == pytest.approx(4.0)
    assert len(found.run.graph) < 20_000


def test_microbatch_ends_with_its_last_own_action_and_not_with_its_update() -> None:
    actions = [(0, Action(0, Op.F, 0), 1.0), (0, Action(0, Op.B, 0), 3.0), (0, Action(0, Op.U, 0), 9.0)]
    assert microbatch_ends([*actions, (1, Action(0, Op.B, 0), 2.0)]) == [2.0, 3.0]


@pytest.mark.parametrize("name", ["sgd", "async-lu", "1f1b", "ddp", "zb-h1"])
def test_least_number_of_microbatches_has_a_steady_state(name: str) -> None:
    endless = compiled((name,), 4).program()
    least = microbatches_for(endless, 1)
    assert least % endless.every == 0
    first, last = steady_edges(least * endless.replicas, endless)
    assert last - first == endless.step * endless.replicas
    with pytest.raises(UsageError, match="microbatches are too few for a steady state") as refused:
        steady_edges((2 * (endless.start + endless.step)) * endless.replicas, endless)
    assert refused.value.hint == f"use at least {least}"

"""The dispatcher alone: order inside streams, events, urgency, and its end."""

from __future__ import annotations

import threading

import pytest

from asyncpipe.compiler import compile_schedule
from asyncpipe.ir import Action, Op, Program
from asyncpipe.runtime.allocator import keep_freed_memory
from asyncpipe.runtime.dispatcher import Dispatcher, Work
from asyncpipe.schedule import load


def program(name: str, stages: int, microbatches: int) -> Program:
    return compile_schedule(load(name), stages).program(microbatches)


def run_alone(made: Program) -> list[Work]:
    """One worker takes everything, one after another."""
    dispatcher = Dispatcher(made, 1)
    order = []
    work = dispatcher.take(0)
    while work is not None:
        order.append(work)
        work = dispatcher.finish(work) or dispatcher.take(0)
    return order


@pytest.mark.parametrize("name", ["sgd", "sgd-ready", "async-lu", "async-bu", "hogwild"])
def test_one_worker_runs_everything_once_and_every_stream_in_order(name: str) -> None:
    made = program(name, 3, 25)
    order = run_alone(made)
    for stream in range(len(made.streams)):
        assert [a for s, a in order if s == stream] == [launch.action for launch in made.launches(stream)]
    compiled = compile_schedule(load(name), 3)
    ended: set[Action] = set()
    for _, action in order:
        assert all(source in ended for source, _ in compiled.diagram.predecessors(action, 25))
        ended.add(action)
    assert len(ended) == 3 * 25 * 3


def test_updates_and_backwards_go_before_forwards() -> None:
    order = [action for _, action in run_alone(program("async-lu", 2, 3))]
    assert order[:6] == [
        Action(0, Op.F, 0),
        Action(1, Op.F, 0),
        Action(1, Op.B, 0),
        Action(1, Op.U, 0),
        Action(0, Op.B, 0),
        Action(0, Op.U, 0),
    ]


def test_stop_sends_waiting_workers_home() -> None:
    dispatcher = Dispatcher(program("sgd", 1, 4), 2)
    assert dispatcher.take(0) is not None
    returned: list[object] = []
    waiting = threading.Thread(target=lambda: returned.append(dispatcher.take(1)))
    waiting.start()
    dispatcher.stop()
    waiting.join(5)
    assert not waiting.is_alive()
    assert returned == [None]
    assert dispatcher.take(0) is None


def test_the_allocator_can_be_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ASYNCPIPE_MALLOC", "system")
    assert keep_freed_memory.__wrapped__() is False
    monkeypatch.delenv("ASYNCPIPE_MALLOC")
    assert isinstance(keep_freed_memory.__wrapped__(), bool)

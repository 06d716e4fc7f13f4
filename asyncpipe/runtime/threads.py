"""The `threads` back end: streams as orders on one thread for each core, real asynchrony.

There is no lock around parameters; autograd and the kernels release the interpreter lock while they compute.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from queue import Empty, SimpleQueue

import torch

from asyncpipe.ir import Action, Op
from asyncpipe.runtime.allocator import keep_freed_memory
from asyncpipe.runtime.autocast import autocast_of_this_thread, entered
from asyncpipe.runtime.dispatcher import Dispatcher
from asyncpipe.runtime.failure import naming_the_action
from asyncpipe.runtime.replicas import ReplicaGroup

__all__ = ["Hook", "run_threads", "usable_cores", "worker_count"]

Hook = Callable[[int, Action], None]
"""Called with (stream, action) before an action runs: delays, race tests."""

_SWITCH_INTERVAL = 5e-4
_POLL_SECONDS = 0.5


def run_threads(group: ReplicaGroup, hook: Hook | None = None, poll: Callable[[], None] | None = None) -> None:
    """Runs a whole program and returns when every thread has ended. The first failure wins and stops all others.

    There is a thread for each core, or with a `hook` or delays, which sleep, for each stream. `poll` is called in the
    calling thread every half second.
    """
    keep_freed_memory()
    streams = len(group.program.streams) * len(group.executions)
    count = streams if hook or group.delays else worker_count(streams, torch.get_num_threads())
    dispatcher = Dispatcher(group.program, count)
    autocast = autocast_of_this_thread()
    failures: list[BaseException] = []

    def work(worker: int) -> None:
        try:
            with entered(autocast):
                _run_worker(group, dispatcher, worker, hook)
        except BaseException as error:
            failures.append(error)
            dispatcher.stop()

    ended: SimpleQueue[None] = SimpleQueue()
    threads = [_thread(f"asyncpipe-{i}", partial(work, i), ended) for i in range(count)]
    with _short_switch_interval():
        _start_and_join(threads, ended, dispatcher.stop, poll)
    if failures:
        raise failures[0]


def _run_worker(group: ReplicaGroup, dispatcher: Dispatcher, worker: int, hook: Hook | None) -> None:
    names = [stream.name for stream in group.program.streams]
    work = dispatcher.take(worker)
    while work is not None:
        replica, stream = divmod(work[0], len(names))
        action = work[1]
        if group.delays is not None and not dispatcher.pause(_held(group, replica, stream, action)):
            return
        start = time.perf_counter()
        with naming_the_action(names[stream], action):
            if hook is not None:
                hook(stream, action)
            group.run_at_once(replica, stream, action)
        if group.delays is not None:
            more = float(group.delays.factor(replica, stream)) - 1
            dispatcher.pause(more * (time.perf_counter() - start))
        work = dispatcher.finish(work) or dispatcher.take(worker)


def _held(group: ReplicaGroup, replica: int, stream: int, action: Action) -> float:
    """Seconds before an action; one at which all replicas meet waits for the latest of them."""
    assert group.delays is not None
    meets = action.op is Op.SYNC and group.synchroniser is not None and group.synchroniser.meets
    together = range(group.program.replicas) if meets else (replica,)
    return max(float(group.delays.hold(one, stream, action)) for one in together)


def usable_cores() -> int:
    """The number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def worker_count(streams: int, intra_op_threads: int) -> int:
    """How many threads run so many streams, of which each action uses so many intra-op threads."""
    return min(streams, max(1, usable_cores() // intra_op_threads))


def _thread(name: str, work: Callable[[], None], ended: SimpleQueue[None]) -> threading.Thread:
    """A thread that says when it has ended."""

    def target() -> None:
        try:
            work()
        finally:
            ended.put(None)

    return threading.Thread(target=target, name=name, daemon=True)


def _start_and_join(
    threads: Sequence[threading.Thread],
    ended: SimpleQueue[None],
    stop: Callable[[], None],
    poll: Callable[[], None] | None,
) -> None:
    """Every thread that was started is joined, whatever happens in the calling thread meanwhile.

    An interrupt inside `Thread.join` makes Python 3.11 take a running thread for ended, so we wait for a word from
    each, and join after. Data that blocks delays the end.
    """
    try:
        for thread in threads:
            thread.start()
        waiting = len(threads)
        while waiting:
            try:
                ended.get(timeout=_POLL_SECONDS)
                waiting -= 1
            except Empty:
                if poll is not None:
                    poll()
    finally:
        stop()
        for thread in threads:
            if thread.ident is not None:
                thread.join()


@contextmanager
def _short_switch_interval() -> Iterator[None]:
    """A thread that comes back from a kernel should not wait 5 ms for the interpreter lock."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(min(before, _SWITCH_INTERVAL))
    try:
        yield
    finally:
        sys.setswitchinterval(before)

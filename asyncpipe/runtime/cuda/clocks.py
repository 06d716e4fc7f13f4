"""The clocks of GPUs: how fine they are, what a stamp costs, and what they show beside the host's."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise

from asyncpipe.ir import DeviceClock
from asyncpipe.kernels.stamps.rows import StampRows
from asyncpipe.runtime.cuda.api import Cuda, Stream

__all__ = ["Comparison", "compare", "measure_clock"]

_CHAIN = 256
"""Stamps one after another, by which a clock is measured."""
_COMPARISONS = 8


@dataclass(frozen=True)
class Comparison:
    """Nanoseconds of a device's clock when the monotonic clock of the host said `host`, give or take `within`."""

    device: int
    host: float
    within: float


def compare(cuda: Cuda, stream: Stream, device: int) -> Comparison:
    """The closest of some comparisons: a stamp is made between two readings of the host's clock. Waits."""
    rows = _rows(cuda, stream, device, _COMPARISONS)
    around = []
    for slot in range(_COMPARISONS):
        before = time.perf_counter_ns()
        _stamp(cuda, stream, rows, [slot])
        _wait(cuda, stream)
        around.append((before, time.perf_counter_ns()))
    found = zip(around, _times(cuda, stream, rows), strict=True)
    (before, after), read = min(found, key=lambda one: one[0][1] - one[0][0])
    return Comparison(read, (before + after) / 2, (after - before) / 2)


def measure_clock(cuda: Cuda, stream: Stream, device: int, in_graph: bool) -> DeviceClock:
    """By a chain of stamps, issued one by one or as nodes of a graph. Waits for the stream."""
    rows = _rows(cuda, stream, device, _CHAIN)
    _stamp(cuda, stream, rows, range(_CHAIN))
    if in_graph:
        with _launched(cuda, stream):
            _stamp(cuda, stream, rows, range(_CHAIN))
    steps = [after - before for before, after in pairwise(_times(cuda, stream, rows))]
    return DeviceClock(math.gcd(*steps) / 1e9, statistics.fmean(steps) / 1e9)


@contextmanager
def _launched(cuda: Cuda, stream: Stream) -> Iterator[None]:
    """Captures the block, launches it once, and waits."""
    with cuda.capture(stream) as graph:
        yield
    cuda.launch(graph, stream)
    _wait(cuda, stream)


def _rows(cuda: Cuda, stream: Stream, device: int, count: int) -> StampRows:
    with cuda.on(stream):
        return StampRows(count, 1, cuda.torch_device(device))


def _stamp(cuda: Cuda, stream: Stream, rows: StampRows, slots: Iterable[int]) -> None:
    with cuda.on(stream):
        for slot in slots:
            rows.stamp(slot)


def _times(cuda: Cuda, stream: Stream, rows: StampRows) -> list[int]:
    """Nanoseconds, by slot."""
    with cuda.on(stream):
        host = cuda.pinned(rows.values)
        host.copy_(rows.values, non_blocking=True)
    _wait(cuda, stream)
    numbers = [int(number) for number in cuda.on_host(host)]
    return [rows.read(numbers, 0, slot).nanoseconds for slot in range(rows.width)]


def _wait(cuda: Cuda, stream: Stream) -> None:
    event = cuda.event()
    cuda.record(event, stream)
    cuda.synchronize(event)

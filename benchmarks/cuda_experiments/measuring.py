"""What the experiments share: graphs, streams that fork and join, and seconds between events, in turns."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, TypeAlias

import torch

__all__ = ["Values", "Work", "attempt", "capture", "forked", "seconds", "spread", "streams"]

Work: TypeAlias = Callable[[], object]
Values: TypeAlias = dict[str, Any]
HEAD_START = 2_000_000
"""Cycles, about a millisecond: the host issues a round while the device sleeps, so that launches are not timed."""


def streams(count: int, priorities: tuple[int, ...] = ()) -> list[torch.cuda.Stream]:
    """Distinct ones: torch hands out 32 of a priority, then the same again. RuntimeError if two are one."""
    made = [torch.cuda.Stream(priority=priorities[i] if priorities else 0) for i in range(count)]
    if len({stream.cuda_stream for stream in made}) < count:
        raise RuntimeError(f"asked for {count} streams, and two of them are the same")
    return made


@contextmanager
def forked(lanes: list[torch.cuda.Stream]) -> Iterator[None]:
    """All lanes start after what the current stream has issued, which goes on after all of them."""
    origin = torch.cuda.current_stream()
    for lane in lanes:
        lane.wait_stream(origin)
    yield
    for lane in lanes:
        origin.wait_stream(lane)


def capture(work: Work, stream: torch.cuda.Stream | None = None) -> torch.cuda.CUDAGraph:
    """A graph of one call, after two calls that load what must be loaded before; replayed once."""
    own = stream or torch.cuda.Stream()
    with torch.cuda.stream(own):
        work()
        work()
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph, stream=own, capture_error_mode="thread_local"):
        work()
    with torch.cuda.stream(own):
        graph.replay()
    torch.cuda.synchronize()
    return graph


def seconds(works: Mapping[str, Work], rounds: int = 15) -> dict[str, list[float]]:
    """Device seconds of each call on the current stream, one value a round, after a call each as warm-up."""
    for work in works.values():
        work()
    torch.cuda.synchronize()
    taken: dict[str, list[float]] = {name: [] for name in works}
    for _ in range(rounds):
        torch.cuda._sleep(HEAD_START)
        events = {name: _between_events(work) for name, work in works.items()}
        torch.cuda.synchronize()
        for name, (start, end) in events.items():
            taken[name].append(start.elapsed_time(end) / 1e3)
    return taken


def _between_events(work: Work) -> tuple[torch.cuda.Event, torch.cuda.Event]:
    start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
    start.record()
    work()
    end.record()
    return start, end


def spread(values: list[float]) -> dict[str, float]:
    """Median, and what 10 % of the values are below and above."""
    tenths = statistics.quantiles(values, n=10, method="inclusive") if len(values) > 1 else [values[0]]
    return {"median": statistics.median(values), "low": tenths[0], "high": tenths[-1]}


def attempt(part: Callable[[], Values]) -> Values:
    """The values of one part, or why this machine or this version cannot: the other parts still run."""
    try:
        return part()
    except Exception as error:  # a version may lack the interface in any way
        torch.cuda.synchronize()
        return {"not_possible": f"{type(error).__name__}: {error}"}

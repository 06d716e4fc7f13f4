"""Where the streams of a run stand idle, and for which action each of them waits."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from asyncpipe.analysis.launch_graph import Key, LaunchGraph
from asyncpipe.analysis.steady import SteadyRun

__all__ = ["Cause", "StreamTime", "stream_times", "waits_for_replica"]


class Cause(NamedTuple):
    """A launch, by its number, that could not start, and the one that it waited for: None for another replica's."""

    target: int
    source: int | None

    def keys(self, graph: LaunchGraph) -> tuple[Key, Key | None]:
        source = None if self.source is None else graph.keys[graph.key[self.source]]
        return graph.keys[graph.key[self.target]], source


@dataclass(frozen=True)
class StreamTime:
    """How one stream spends a window: in ticks, `busy` + `held` + `idle` = `length`.

    `waits` holds the idle time by cause; of equal causes in several microbatches the last one is named.
    """

    stream: int
    length: int
    busy: int
    held: int
    waits: tuple[tuple[Cause, int], ...]

    @property
    def idle(self) -> int:
        return self.length - self.busy - self.held


def stream_times(run: SteadyRun) -> list[StreamTime]:
    """Every stream in the run's window; `held` is what delays take."""
    count = len(run.graph.program.streams)
    totals = [[0, 0] for _ in range(count)]
    causes: list[dict[tuple[Key, Key | None], tuple[Cause, int]]] = [{} for _ in range(count)]
    for launch, previous in enumerate(run.graph.previous):
        if run.times.ends[launch] < run.window.begin:
            continue
        stream, start = run.graph.stream[launch], run.times.starts[launch]
        free = run.times.ends[previous] if previous >= 0 else 0
        ready = start - run.holds.get(launch, 0)
        totals[stream][0] += _inside(run, start, run.times.ends[launch])
        totals[stream][1] += _inside(run, ready, start)
        if idle := _inside(run, free, ready):
            cause = Cause(launch, _last_source(run, launch, ready))
            keys = cause.keys(run.graph)
            causes[stream][keys] = (cause, causes[stream].get(keys, (cause, 0))[1] + idle)
    length = run.window.length
    return [
        StreamTime(i, length, busy, held, tuple(sorted(causes[i].values(), key=lambda wait: -wait[1])))
        for i, (busy, held) in enumerate(totals)
    ]


def _inside(run: SteadyRun, begin: int, end: int) -> int:
    """The part of a span that lies in the window."""
    return max(0, min(end, run.window.end) - max(begin, run.window.begin))


def _last_source(run: SteadyRun, launch: int, ready: int) -> int | None:
    """The event that came last before the launch; None where it waited for the other replicas instead."""
    last = max(run.graph.waits[launch], key=lambda source: run.times.ends[source], default=None)
    return last if last is not None and run.times.ends[last] == ready else None


def waits_for_replica(run: SteadyRun, launch: int) -> bool:
    """Whether a synchronisation could have started earlier but for the other replicas."""
    previous = run.graph.previous[launch]
    before = [*run.graph.waits[launch], *([previous] if previous >= 0 else [])]
    ready = max((run.times.ends[source] for source in before), default=0)
    return ready < run.times.starts[launch] - run.holds.get(launch, 0)

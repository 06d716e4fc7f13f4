"""How the streams of a measured run spend their time: work, waits with their causes, no free worker, dispatch, ends."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise
from typing import NamedTuple

from asyncpipe.analysis.critical_path import reason_of
from asyncpipe.analysis.launch_graph import LaunchGraph
from asyncpipe.compiler import Compiled
from asyncpipe.ir import Op, ProgramStream
from asyncpipe.tools.profile.steps import Step

__all__ = ["StreamUse", "Wait", "stream_uses", "worker_spans"]

Key = tuple[Op, int]
Span = tuple[float, float]


class Wait(NamedTuple):
    """`target` could not start: it missed `source`, None where that was another replica. Seconds, and how often."""

    target: Key
    source: Key | None
    reason: str
    seconds: float
    occurrences: int


@dataclass(frozen=True)
class StreamUse:
    """Seconds of a run that took `length`: `busy` + waits + `no_worker` + `dispatch` + `ends` = `length`.

    no_worker: something was ready, and all workers were at work. dispatch: ready, a worker free, not begun yet. ends:
    before the first action and after the last.
    """

    replica: int
    stream: ProgramStream
    length: float
    busy: float
    waits: tuple[Wait, ...]
    no_worker: float
    dispatch: float
    ends: float

    @property
    def waiting(self) -> float:
        return sum(wait.seconds for wait in self.waits)


def stream_uses(steps: Sequence[Step], graph: LaunchGraph, compiled: Compiled | None, workers: int) -> list[StreamUse]:
    """Of every stream of every replica; `compiled` gives the reasons of waits."""
    length = max(step.timed.end for step in steps)
    crowded = _Crowded(worker_spans(steps), workers)
    own: dict[tuple[int, int], list[Step]] = {}
    for step in steps:
        own.setdefault((step.timed.replica, step.timed.stream), []).append(step)
    return [
        _use(replica, stream, own.get((replica, number), []), length, crowded, _Causes(graph, compiled))
        for replica in range(graph.program.replicas)
        for number, stream in enumerate(graph.program.streams)
    ]


def _use(
    replica: int, stream: ProgramStream, steps: list[Step], length: float, crowded: _Crowded, causes: _Causes
) -> StreamUse:
    if not steps:
        return StreamUse(replica, stream, length, 0.0, (), 0.0, 0.0, length)
    steps.sort(key=lambda step: step.timed.begin)
    busy = sum(step.timed.seconds for step in steps)
    later = steps[1:]
    for step in later:
        causes.add(step)
    no_worker = sum(crowded.within(step.ready, step.timed.begin) for step in later)
    held = sum(step.timed.begin - step.ready for step in later)
    ends = steps[0].timed.begin + length - steps[-1].timed.end
    return StreamUse(replica, stream, length, busy, tuple(causes.waits()), no_worker, held - no_worker, ends)


class _Causes:
    """Sums the waits of one stream by what waits for what."""

    def __init__(self, graph: LaunchGraph, compiled: Compiled | None) -> None:
        self.graph, self.diagram = graph, None if compiled is None else compiled.diagram
        self.found: dict[tuple[Key, Key | None], Wait] = {}

    def add(self, step: Step) -> None:
        if step.stood_still <= 0:
            return
        keys = self.graph.keys
        target = keys[self.graph.key[step.launch]]
        source = None if step.source is None else keys[self.graph.key[step.source]]
        before = self.found.get((target, source))
        seconds, count = (before.seconds, before.occurrences) if before else (0.0, 0)
        reason = before.reason if before else self.reason(step)
        self.found[target, source] = Wait(target, source, reason, seconds + step.stood_still, count + 1)

    def reason(self, step: Step) -> str:
        if step.source is None:
            return "the replicas meet" if step.waits_for_replica else ""
        return reason_of(self.graph, self.diagram, step.launch, step.source)[0]

    def waits(self) -> Iterator[Wait]:
        """The longest first."""
        yield from sorted(self.found.values(), key=lambda wait: -wait.seconds)


def worker_spans(steps: Sequence[Step]) -> list[Span]:
    """From when to when each worker was taken; a worker that had its next action before it ended one stays taken."""
    by_worker: dict[int, dict[float, Step]] = {}
    for step in steps:
        by_worker.setdefault(step.timed.worker, {})[step.timed.begin] = step
    spans: list[Span] = []
    for own in by_worker.values():
        ordered = [own[begin] for begin in sorted(own)]
        begin = ordered[0].timed.begin
        for before, after in pairwise(ordered):
            if after.ready > before.timed.end:
                spans.append((begin, before.timed.end))
                begin = after.timed.begin
        spans.append((begin, ordered[-1].timed.end))
    return spans


class _Crowded:
    """The time in which all workers are taken, up to any instant."""

    def __init__(self, spans: Sequence[Span], workers: int) -> None:
        changes = sorted([(begin, 1) for begin, _ in spans] + [(end, -1) for _, end in spans])
        taken = list(accumulate(change for _, change in changes))
        self.times = [time for time, _ in changes]
        self.full = [count >= workers for count in taken]
        lengths = ((b - a) * full for (a, b), full in zip(pairwise(self.times), self.full, strict=False))
        self.sums = [0.0, *accumulate(lengths)]

    def until(self, time: float) -> float:
        place = bisect_right(self.times, time) - 1
        if place < 0:
            return 0.0
        return self.sums[place] + self.full[place] * (time - self.times[place])

    def within(self, begin: float, end: float) -> float:
        return self.until(end) - self.until(begin) if end > begin else 0.0

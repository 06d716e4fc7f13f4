"""The part of a measured run that is shown, as trace events.

Each device of each replica is a process, each of its streams a thread. The workers are a process too: their threads
show the same actions by who ran them. Counters: staleness and microbatches in flight of each stage, and the loss.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import count

from asyncpipe.ir import Action, Op, TimedAction
from asyncpipe.pictures.counters import counters
from asyncpipe.pictures.timeline import Row, Timeline, timeline_of
from asyncpipe.pictures.trace import Arrows, Event, counter_events, microseconds, name_event, row_events
from asyncpipe.tools.profile.steps import times_of_replica
from asyncpipe.tools.trace.measured import MeasuredRun, Window

__all__ = ["trace_events"]

_SCALE = 1e6
"""Seconds to the microseconds of a trace."""
Steps = Sequence[tuple[float, float]]


def trace_events(measured: MeasuredRun, window: Window) -> Iterator[Event]:
    """Whole actions, all that lie in the window at least in part; time 0 is the begin of the first one."""
    program = measured.run.program
    shown = [timed for timed in measured.run.actions if timed.end > window.begin and timed.begin < window.end]
    span = _Span(min(timed.begin for timed in shown), max(timed.end for timed in shown), window)
    processes, arrow = count(), 0
    for replica in range(program.replicas):
        times = times_of_replica(measured.run, replica)
        whole = timeline_of(program, times, "s")
        name = f"replica {replica} " if program.replicas > 1 else ""
        arrows = Arrows(span.part(whole), arrow)
        arrow = arrows.last
        yield from _streams(span.part(whole), name, processes, arrows)
        yield from _stages(whole, name, next(processes), span)
    yield from _workers(shown, [stream.name for stream in program.streams], program.replicas, next(processes), span)
    if measured.losses is not None:
        yield from _loss(measured, next(processes), span)


@dataclass(frozen=True)
class _Span:
    """What is shown: from the begin of the first action in the window to the end of the last one."""

    begin: float
    end: float
    window: Window

    def part(self, timeline: Timeline) -> Timeline:
        return replace(timeline, rows=tuple(map(self._row, timeline.rows)), end=self.end - self.begin)

    def _row(self, row: Row) -> Row:
        inside = (box for box in row.boxes if box.end > self.window.begin and box.start < self.window.end)
        moved = (replace(box, start=box.start - self.begin, end=box.end - self.begin) for box in inside)
        return replace(row, boxes=tuple(moved))

    def steps(self, steps: Steps) -> Steps:
        """Those inside, and at the begin the value that then is; of several at one nanosecond the last."""
        shown = ((max(0.0, round(time - self.begin, 9)), value) for time, value in steps if time <= self.end)
        return list(dict(shown).items())


def _process(number: int, name: str) -> Iterator[Event]:
    yield name_event("process", number, 0, name)
    yield {"ph": "M", "name": "process_sort_index", "pid": number, "tid": 0, "args": {"sort_index": number}}


def _thread(process: int, number: int, name: str) -> Iterator[Event]:
    yield name_event("thread", process, number, name)
    yield {"ph": "M", "name": "thread_sort_index", "pid": process, "tid": number, "args": {"sort_index": number}}


def _streams(part: Timeline, name: str, processes: Iterator[int], arrows: Arrows) -> Iterator[Event]:
    for device in sorted({row.device for row in part.rows}):
        process = next(processes)
        yield from _process(process, f"{name}device {device}")
        for number, row in enumerate((row for row in part.rows if row.device == device), 1):
            yield from _thread(process, number, row.name)
            yield from row_events(row, process, number, _SCALE, arrows)


def _stages(whole: Timeline, name: str, process: int, span: _Span) -> Iterator[Event]:
    """Counted from the begin of the run, so that the first value that is shown is right."""
    yield from _process(process, f"{name}stages")
    for counter in counters(whole):
        track = f"stage {counter.stage} {counter.name}"
        yield from counter_events(process, track, counter.name, span.steps(counter.steps), _SCALE)


def _workers(
    shown: Sequence[TimedAction], streams: Sequence[str], replicas: int, process: int, span: _Span
) -> Iterator[Event]:
    yield from _process(process, "workers")
    for worker in sorted({timed.worker for timed in shown}):
        yield from _thread(process, worker + 1, f"worker {worker}")
        own = sorted((t for t in shown if t.worker == worker), key=lambda t: (t.begin, t.end))
        for timed in own:
            begin, end = (microseconds((time - span.begin) * _SCALE) for time in (timed.begin, timed.end))
            place = {"pid": process, "tid": worker + 1, "ts": begin, "dur": microseconds(end - begin)}
            facts = {"stream": streams[timed.stream], **({"replica": timed.replica} if replicas > 1 else {})}
            yield {"ph": "X", "name": str(timed.action), "cat": timed.action.op.value, **place, "args": facts}


def _loss(measured: MeasuredRun, process: int, span: _Span) -> Iterator[Event]:
    """Each from when its forward through the last stage ended."""
    assert measured.losses is not None
    program = measured.run.program
    ends = {(timed.replica, timed.action): timed.end for timed in measured.run.actions}
    found = []
    for number, loss in enumerate(measured.losses):
        own, replica = divmod(number, program.replicas)
        end = ends.get((replica, Action(program.stages - 1, Op.F, own)))
        if end is not None and math.isfinite(loss):
            found.append((end, loss))
    yield from _process(process, "training")
    yield from counter_events(process, "loss", "loss", span.steps(sorted(found)), _SCALE)

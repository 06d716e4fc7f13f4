"""Why each measured action began when it did: when its stream was free, when its events were there, and the last one.

All from the program's waits and the measured ends, after the run.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from asyncpipe.analysis.asap import meets
from asyncpipe.analysis.launch_graph import LaunchGraph
from asyncpipe.ir import Action, Op, TimedAction, TimedRun

__all__ = ["Step", "steps_of", "times_of_replica"]


@dataclass(frozen=True)
class Step:
    """A measured action: `free` is when the action before it in its stream ended, `ready` when nothing was missing.

    source: the launch whose event came last, after `free`; None where none did, or where another replica was late.
    """

    timed: TimedAction
    launch: int
    free: float
    ready: float
    source: int | None
    waits_for_replica: bool = False

    @property
    def stood_still(self) -> float:
        """How long the stream waited for events."""
        return self.ready - self.free


@dataclass(frozen=True)
class _Ends:
    """When each launch of a replica ended."""

    graph: LaunchGraph
    times: Mapping[int, float] = field(repr=False)

    def step(self, timed: TimedAction, launch: int) -> Step:
        previous = self.graph.previous[launch]
        free = self.times.get(previous, 0.0)
        last = max(self.graph.waits[launch], key=lambda source: self.times.get(source, 0.0), default=None)
        arrived = 0.0 if last is None else self.times.get(last, 0.0)
        late = last is not None and arrived > free
        # An action cannot have begun before its events, but clocks are read a little late.
        return Step(timed, launch, free, min(max(free, arrived), timed.begin), last if late else None)


def steps_of(run: TimedRun, graph: LaunchGraph) -> list[Step]:
    """A step for each action of each stream of each replica, in the order of the run.

    A SYNC at which replicas meet is timed once and counts in each of them.
    """
    together = meets(run.program)
    replicas = run.program.replicas if together else 1
    actions = [copy for timed in run.actions for copy in _copies(timed, replicas)]
    ends = [_Ends(graph, times) for times in _ends_by_replica(actions, graph, run.program.replicas)]
    found = [ends[t.replica].step(t, _number(graph, t.action)) for t in actions]
    return list(_met(found)) if together else found


def times_of_replica(run: TimedRun, replica: int) -> dict[Action, tuple[float, float]]:
    """(begin, end) of each action of one replica."""
    replicas = run.program.replicas if meets(run.program) else 1
    copies = (copy for timed in run.actions for copy in _copies(timed, replicas))
    return {copy.action: (copy.begin, copy.end) for copy in copies if copy.replica == replica}


def _copies(timed: TimedAction, replicas: int) -> Iterator[TimedAction]:
    if timed.action.op is not Op.SYNC or replicas == 1:
        yield timed
        return
    yield from (timed._replace(replica=replica) for replica in range(replicas))


def _number(graph: LaunchGraph, action: Action) -> int:
    return graph.numbers[action.op, action.stage][action.index]


def _ends_by_replica(actions: Sequence[TimedAction], graph: LaunchGraph, replicas: int) -> list[dict[int, float]]:
    ends: list[dict[int, float]] = [{} for _ in range(replicas)]
    for timed in actions:
        ends[timed.replica][_number(graph, timed.action)] = timed.end
    return ends


def _met(steps: Sequence[Step]) -> Iterator[Step]:
    """At a SYNC a replica that came early waits for the latest one."""
    latest: dict[int, float] = {}
    for step in steps:
        if step.timed.action.op is Op.SYNC:
            latest[step.launch] = max(latest.get(step.launch, 0.0), step.ready)
    for step in steps:
        until = latest.get(step.launch, step.ready) if step.timed.action.op is Op.SYNC else step.ready
        if until > step.ready:
            yield Step(step.timed, step.launch, step.free, min(until, step.timed.begin), None, True)
        else:
            yield step

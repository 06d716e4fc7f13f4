"""AP2xx: a schedule that cannot make progress, with the shortest cycle and the lines of its rules."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator

from asyncpipe.errors import Diagnostic
from asyncpipe.ir import Action
from asyncpipe.passes.diagram import Origin
from asyncpipe.passes.order import Replay
from asyncpipe.schedule import Schedule
from asyncpipe.schedule.source import Report

__all__ = ["explain_deadlock", "explain_endless", "shortest_cycle"]

_MOST_STARTS = 500
"""Cycles repeat with the microbatch: those through the first blocked actions show them all."""
Step = tuple[Action, Origin]
Waits = dict[Action, list[Step]]


def explain_deadlock(schedule: Schedule, replay: Replay, report: Report) -> None:
    """Adds AP201 with the shortest cycle of waits, or AP202 where waiting leads to ever later microbatches."""
    cycle = shortest_cycle(schedule, replay)
    if cycle is None:
        blocked = min(replay.missing, key=lambda a: (replay.diagram.microbatch(a), a.stage))
        explain_endless(schedule, replay, blocked, report)
    else:
        report.add(_cycle(schedule, cycle))


def _cycle(schedule: Schedule, cycle: list[Step]) -> Diagnostic:
    following = [action for action, _ in (*cycle[1:], cycle[0])]
    notes = tuple(
        (f"{action} waits for {source}: {origin.text}", origin.where)
        for (action, origin), source in zip(cycle, following, strict=True)
    )
    path = " -> ".join(str(action) for action in (cycle[0][0], *following))
    written = [origin.where for _, origin in cycle if origin.where is not None]
    message = f"deadlock: {path}" if len(cycle) > 1 else f"deadlock: {cycle[0][0]} waits for itself"
    hint = "remove one of these waits, or let it name an earlier microbatch or update"
    return Diagnostic("AP201", message, written[0] if written else schedule.where("streams"), hint, notes=notes)


def _blockers(schedule: Schedule, replay: Replay, action: Action) -> Iterator[Step]:
    """What keeps a blocked action from starting: unfinished sources, or the line of its body before it."""
    for source, origin in replay.diagram.predecessors(action):
        if not replay.is_done(source):
            yield source, origin
    number = replay.lane_of(action)
    if number is None:
        return
    lane = replay.lanes[number]
    if lane.stream.body and lane.nexts is not None and lane.nexts != action:
        where = schedule.streams[lane.stream.group].where("body")
        yield lane.nexts, Origin(f"the body of {lane.stream.name} runs it first", where)


def shortest_cycle(schedule: Schedule, replay: Replay) -> list[Step] | None:
    """The shortest cycle among the blocked actions, each with the reason why it waits for the next one."""
    waits = _in_cycles({action: list(_blockers(schedule, replay, action)) for action in replay.missing})
    best: list[Step] | None = None
    first = sorted(waits, key=lambda a: (replay.diagram.microbatch(a), a.stage))
    for start in first[:_MOST_STARTS]:
        found = _cycle_through(waits, start, len(best) if best else len(waits) + 1)
        best = best if found is None else found
    return best


def _in_cycles(waits: Waits) -> Waits:
    """Without the actions that lead to no cycle: those that wait for none, again and again."""
    waiters: dict[Action, list[Action]] = {action: [] for action in waits}
    left = {action: sum(source in waits for source, _ in steps) for action, steps in waits.items()}
    for action, steps in waits.items():
        for source, _ in steps:
            waiters.get(source, []).append(action)
    loose = deque(action for action, count in left.items() if count == 0)
    while loose:
        for waiter in waiters[loose.popleft()]:
            left[waiter] -= 1
            if left[waiter] == 0:
                loose.append(waiter)
    return {action: [step for step in waits[action] if left.get(step[0])] for action in waits if left[action]}


def _cycle_through(waits: Waits, start: Action, limit: int) -> list[Step] | None:
    """The shortest cycle through `start` of fewer than `limit` actions."""
    came: dict[Action, tuple[Action, Origin]] = {}
    queue: deque[tuple[Action, int]] = deque([(start, 1)])
    while queue:
        action, length = queue.popleft()
        if length >= limit:
            return None
        for source, origin in waits[action]:
            if source == start:
                return _path(came, start, action, origin)
            if source not in came:
                came[source] = (action, origin)
                queue.append((source, length + 1))
    return None


def _path(came: dict[Action, tuple[Action, Origin]], start: Action, last: Action, closing: Origin) -> list[Step]:
    steps = [(last, closing)]
    while steps[-1][0] != start:
        steps.append(came[steps[-1][0]])
    return list(reversed(steps))


def explain_endless(schedule: Schedule, replay: Replay, blocked: Action, report: Report) -> None:
    """Adds AP202: the action waits for one that waits for another, without end."""
    source, origin = next(_blockers(schedule, replay, blocked))
    message = f"deadlock: {blocked} waits for {source}, and so on to ever later microbatches ({origin.text})"
    hint = "a schedule has no end: let the rule name an earlier microbatch"
    report.error("AP202", message, origin.where or schedule.where("rules", "streams"), hint)

"""AP2xx: a schedule that cannot make progress, with the shortest cycle and the lines of its rules."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator

from asyncpipe.errors import Diagnostic, Position
from asyncpipe.ir import Action
from asyncpipe.passes.diagram import Origin
from asyncpipe.passes.order import Replay
from asyncpipe.schedule.source import Report

__all__ = ["explain_deadlock", "shortest_cycle"]

Step = tuple[Action, Origin]


def explain_deadlock(replay: Replay, where: Position | None, report: Report) -> None:
    """Adds AP201 with the shortest cycle of waits, or AP202 where waiting leads to ever later microbatches."""
    cycle = shortest_cycle(replay)
    if cycle is None:
        report.diagnostics.append(_endless(replay, where))
        return
    rules = [origin for _, origin in cycle if origin.where is not None]
    first = rules[0].where if rules else where
    path = " -> ".join(str(action) for action, _ in cycle)
    message = f"deadlock: {path} -> {cycle[0][0]} wait for each other"
    notes = tuple(
        (f"{action} waits for {cycle[(i + 1) % len(cycle)][0]}: {origin.text}", origin.where)
        for i, (action, origin) in enumerate(cycle)
    )
    hint = "remove one of the rules, or let it name an earlier microbatch" if rules else "change the order of the body"
    report.diagnostics.append(Diagnostic("AP201", message, first, hint, notes=notes))


def _blockers(replay: Replay, action: Action) -> Iterator[Step]:
    """What keeps a blocked action from starting: unfinished sources, or the line of its body before it."""
    for source, origin in replay.diagram.predecessors(action, replay.n):
        if not replay.is_done(source):
            yield source, origin
    lane = replay.lanes[replay.diagram.stream_of(action)]
    if lane.stream.body and lane.nexts is not None and lane.nexts != action:
        yield lane.nexts, Origin(f"the body of {lane.stream.name} runs it first")


def shortest_cycle(replay: Replay) -> list[Step] | None:
    """The shortest cycle among the blocked actions, each with the reason why it waits for the next one."""
    best: list[Step] | None = None
    for start in sorted(replay.missing, key=lambda a: (replay.diagram.microbatch(a), a.stage)):
        limit = len(best) if best else len(replay.missing) + 1
        found = _cycle_through(replay, start, limit)
        if found is not None and (best is None or len(found) < len(best)):
            best = found
    return best


def _cycle_through(replay: Replay, start: Action, limit: int) -> list[Step] | None:
    came: dict[Action, tuple[Action, Origin, int]] = {}
    queue: deque[tuple[Action, int]] = deque([(start, 0)])
    while queue:
        action, depth = queue.popleft()
        if depth + 1 >= limit:
            continue
        for source, origin in _blockers(replay, action) if action in replay.missing else ():
            if source == start:
                return _path(came, start, action, origin)
            if source not in came:
                came[source] = (action, origin, depth + 1)
                queue.append((source, depth + 1))
    return None


def _path(came: dict[Action, tuple[Action, Origin, int]], start: Action, last: Action, closing: Origin) -> list[Step]:
    steps = [(last, closing)]
    while steps[-1][0] != start:
        action, origin, _ = came[steps[-1][0]]
        steps.append((action, origin))
    return list(reversed(steps))


def _endless(replay: Replay, where: Position | None) -> Diagnostic:
    blocked = min(replay.missing, key=lambda a: (replay.diagram.microbatch(a), a.stage))
    source, origin = next(_blockers(replay, blocked))
    message = f"deadlock: {blocked} waits for {source}, and so on to ever later microbatches"
    hint = "a schedule has no end: a rule may not wait for microbatches that come later without bound"
    return Diagnostic("AP202", message, origin.where or where, hint)

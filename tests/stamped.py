"""Whether a measured timeline is one that its program allows."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator

from asyncpipe.ir import Action, Kind, Op, Program, TimedRun

__all__ = ["disobeyed", "missing"]

Place = tuple[int, Action]


def missing(run: TimedRun) -> list[Place]:
    """(stream, action) that was not timed once in each replica; a SYNC at which replicas meet, by one for all."""
    found = Counter((each.stream, each.action) for each in run.actions)
    streams = range(len(run.program.streams))
    planned = Counter((stream, launch.action) for stream in streams for launch in run.program.launches(stream))
    together = {place for place in planned if place[1].op is Op.SYNC and found[place] == 1}
    expected = {place: 1 if place in together else run.program.replicas * planned[place] for place in planned}
    return [place for place in planned | found if found[place] != expected.get(place)]


def disobeyed(run: TimedRun) -> list[tuple[Action, Action]]:
    """(action, one that it comes after) where it began before that had ended; or two stamps of one in disorder."""
    slack = 0.0 if run.clock is None else run.clock.between_devices
    found = [(each.action, each.action) for each in run.actions if each.begin > each.end]
    times = {(each.replica, each.action): each for each in run.actions}
    # Of a SYNC at which replicas meet one has the times for all.
    anywhere = {each.action: each for each in run.actions}
    for replica in range(run.program.replicas):
        for action, before in orders(run.program):
            later, earlier = (times.get((replica, one), anywhere[one]) for one in (action, before))
            if later.begin < earlier.end - slack:
                found.append((action, before))
    return found


def orders(program: Program) -> Iterator[tuple[Action, Action]]:
    """(action, one that it comes after): what its stream did before, and what it waits for."""
    last: dict[int, Action] = {}
    waits: dict[int, list[Action]] = defaultdict(list)
    for kind, stream, action in program.instructions():
        if kind is Kind.WAIT:
            waits[stream].append(action)
        elif kind is Kind.LAUNCH:
            yield from ((action, before) for before in waits.pop(stream, ()))
            if stream in last:
                yield action, last[stream]
            last[stream] = action

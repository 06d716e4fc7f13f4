"""The clock of the language, as plainly as its description has it, over a PlainDiagram; and what each action reads."""

from __future__ import annotations

from dataclasses import dataclass, field
from fractions import Fraction

from tests.library.plain_diagram import BY_UPDATE, PlainAction, PlainDiagram

__all__ = ["Clock", "PlainRun", "run"]


@dataclass
class PlainRun:
    """What happened: times, the order of each stream, and the versions that forwards and backwards read."""

    diagram: PlainDiagram
    times: dict[PlainAction, tuple[Fraction, Fraction]] = field(default_factory=dict)
    orders: list[list[PlainAction]] = field(default_factory=list)
    applied: dict[PlainAction, int] = field(default_factory=dict)
    """Per update, how many updates of its stage came before."""
    reads: dict[PlainAction, int] = field(default_factory=dict)

    def staleness(self, stage: int, m: int) -> int | None:
        """The version to which the update of a microbatch is applied, minus the one that its forward read."""
        update = stage, "U", m // self.diagram.every
        return self.applied[update] - self.reads[stage, "F", m] if update in self.applied else None


def run(diagram: PlainDiagram) -> PlainRun:
    """At each instant finish what ends, settle what costs nothing, then start; never idle while it can run."""
    return Clock(diagram).run()


class Clock:
    """`take` and `finish` are what happens when an action starts and ends."""

    def __init__(self, diagram: PlainDiagram) -> None:
        self.diagram = diagram
        self.found = PlainRun(diagram, orders=[[] for _ in diagram.names])
        self.missing = {action: len(before) for action, before in diagram.before.items()}
        self.after: dict[PlainAction, list[PlainAction]] = {}
        for action, before in diagram.before.items():
            for source in before:
                self.after.setdefault(source, []).append(action)
        self.ready: list[set[PlainAction]] = [set() for _ in diagram.names]
        self.position = [0] * len(diagram.names)
        self.busy: dict[int, tuple[Fraction, PlainAction]] = {}
        self.done = dict.fromkeys(range(diagram.S), 0)
        self.landed = dict.fromkeys(range(diagram.S), 0)
        for action, count in self.missing.items():
            if count == 0:
                self.ready[diagram.stream_of[action]].add(action)

    def run(self) -> PlainRun:
        now = Fraction(0)
        while True:
            ending = [stream for stream, (end, _) in self.busy.items() if end == now]
            for stream in sorted(ending, key=lambda i: (self.busy[i][1][1] not in BY_UPDATE, self.busy[i][1][2])):
                self.finish(self.busy.pop(stream)[1])
            while free := self.next_free():
                self.take(free, now, now)
                self.finish(free)
            for stream in range(len(self.ready)):
                action = None if stream in self.busy else self.most_urgent(stream)
                if action is not None:
                    end = now + self.diagram.cost(action)
                    self.take(action, now, end)
                    self.busy[stream] = end, action
            if not self.busy:
                return self.found
            now = min(end for end, _ in self.busy.values())

    def startable(self, stream: int) -> list[PlainAction]:
        queue = self.diagram.queue[stream]
        if queue is None:
            return list(self.ready[stream])
        head = queue[self.position[stream] : self.position[stream] + 1]
        return [action for action in head if action in self.ready[stream]]

    def next_free(self) -> PlainAction | None:
        idle = [i for i in range(len(self.ready)) if i not in self.busy and self.ready[i]]
        free = [a for i in idle for a in self.startable(i) if self.diagram.cost(a) == 0]
        return min(free, key=lambda a: (a[1] not in BY_UPDATE, *self.urgency(a)), default=None)

    def most_urgent(self, stream: int) -> PlainAction | None:
        order = self.diagram.order[stream]
        return min(self.startable(stream), key=lambda a: (order.index(a[1]), *self.urgency(a)), default=None)

    def urgency(self, action: PlainAction) -> tuple[int, int]:
        """Lower microbatches first; then in data order: forwards up, everything else down."""
        stage = action[0] if action[1] in ("F", "SEND_F") else -action[0]
        return self.diagram.microbatch(action), stage

    def take(self, action: PlainAction, start: Fraction, end: Fraction) -> None:
        stream = self.diagram.stream_of[action]
        self.ready[stream].discard(action)
        self.position[stream] += 1
        self.found.times[action] = start, end
        self.found.orders[stream].append(action)
        stage, op, m = action
        if op == "F":
            exact = None if self.diagram.lag is None else max(0, m // self.diagram.every - self.diagram.lag)
            self.found.reads[action] = self.landed[stage] if exact is None else exact
            assert self.found.reads[action] <= self.landed[stage], f"{action} reads what is not there yet"
        elif op in "BIR":
            stashed = self.found.reads[stage, "F", m]
            self.found.reads[action] = stashed if self.diagram.stashes else self.done[stage]

    def finish(self, action: PlainAction) -> None:
        stage, op, index = action
        if op == "U":
            self.found.applied[action] = self.done[stage]
            self.done[stage] += 1
        if op == "SEND_U" or (op == "U" and (stage, "SEND_U", index) not in self.diagram.stream_of):
            self.landed[stage] += 1
        for target in self.after.get(action, ()):
            self.missing[target] -= 1
            if self.missing[target] == 0:
                self.ready[self.diagram.stream_of[target]].add(target)

"""The clock of the oracle: n microbatches one instant at a time, and the versions that everything reads meanwhile."""

from __future__ import annotations

from collections import defaultdict
from fractions import Fraction

from tests.compiler.oracle import Action, Oracle, by_update

__all__ = ["Clock"]

Times = dict[Action, tuple[Fraction, Fraction]]


class Clock:
    """`times` of everything that runs: finish what ends, settle what is free, then start; never idle while ready.

    `applied` and `between` hold the staleness of each (stage, microbatch): updates since its forward read, until its
    own update and until its backward.
    """

    def __init__(self, oracle: Oracle) -> None:
        self.oracle = oracle
        self.times: Times = {}
        self.now = Fraction(0)
        self.missing = {action: len(before) for action, before in oracle.before.items()}
        self.after: dict[Action, list[Action]] = defaultdict(list)
        for action, before in oracle.before.items():
            for source in before:
                self.after[source].append(action)
        self.ready = {action for action, count in self.missing.items() if count == 0}
        self.queues = {
            i: list(stream["queue"]) for i, stream in enumerate(oracle.streams) if stream["queue"] is not None
        }
        self.busy: dict[int, Fraction] = {}
        self.running: dict[Action, Fraction] = {}
        self.taken: dict[tuple[str, int], int] = {}
        """(dynamic group, microbatch) -> the stream that took it."""
        self.version: dict[int, int] = defaultdict(int)
        self.shown: dict[int, int] = defaultdict(int)
        """Updates of each stage that are applied, and that have arrived where its forward runs."""
        self.read: dict[tuple[int, int], int] = {}
        self.applied: dict[tuple[int, int], int] = {}
        self.between: dict[tuple[int, int], int] = {}

    def run(self) -> Times:
        while True:
            for action in sorted((a for a, end in self.running.items() if end == self.now), key=lambda a: a[2]):
                del self.running[action], self.busy[self.oracle.stream_of[action]]
                self.finish(action)
            while (free := self.next_free()) is not None:
                self.start(free, self.stream_or_first_idle(free))
                self.finish(free)
            for stream in range(len(self.oracle.streams)):
                if stream not in self.busy and (action_ := self.most_urgent(stream)) is not None:
                    end = self.start(action_, stream)
                    self.busy[stream] = self.running[action_] = end
            if not self.running:
                return self.times
            self.now = min(self.running.values())

    # -- who may run -----------------------------------------------------------------------------

    def pool(self, action: Action) -> str | None:
        """The dynamic group of an action."""
        pool: str | None = self.oracle.streams[self.oracle.stream_of[action]]["pool"]
        return pool

    def stream(self, action: Action) -> int | None:
        """The stream of an action; None where its group is dynamic and no stream has taken its microbatch."""
        pool = self.pool(action)
        return self.oracle.stream_of[action] if pool is None else self.taken.get((pool, self.oracle.microbatch(action)))

    def stream_or_first_idle(self, action: Action) -> int | None:
        stream, pool = self.stream(action), self.pool(action)
        if stream is not None:
            return stream if stream not in self.busy else None
        idle = [i for i, s in enumerate(self.oracle.streams) if s["pool"] == pool and i not in self.busy]
        return min(idle, default=None)

    def may_run(self, action: Action, stream: int) -> bool:
        own = self.stream(action)
        if own is None:
            return bool(self.oracle.streams[stream]["pool"] == self.pool(action))
        queue = self.queues.get(stream)
        return own == stream and (queue is None or queue[:1] == [action])

    def next_free(self) -> Action | None:
        free = []
        for action in self.ready:
            if self.oracle.cost(action) == 0:
                stream = self.stream_or_first_idle(action)
                if stream is not None and self.may_run(action, stream):
                    free.append(action)
        return min(free, key=lambda a: (not by_update(a[1]), self.oracle.microbatch(a), self.depth(a), a), default=None)

    def most_urgent(self, stream: int) -> Action | None:
        order = self.oracle.streams[stream]["order"]
        ready = [a for a in self.ready if self.may_run(a, stream) and self.oracle.cost(a) > 0]
        return min(ready, key=lambda a: (order.index(a[1]), self.oracle.microbatch(a), self.depth(a)), default=None)

    def depth(self, action: Action) -> int:
        """Data order: forwards go up the stages, all else goes down."""
        return action[0] if action[1] in ("F", "SEND_F") else self.oracle.S - 1 - action[0]

    # -- what happens ----------------------------------------------------------------------------

    def start(self, action: Action, stream: int | None) -> Fraction:
        assert stream is not None
        pool = self.pool(action)
        if pool is not None:
            self.taken[pool, self.oracle.microbatch(action)] = stream
        self.ready.discard(action)
        if stream in self.queues:
            self.queues[stream].pop(0)
        self.oracle.stream_of[action] = stream
        end = self.now + self.oracle.cost(action)
        self.times[action] = (self.now, end)
        self.reads(action)
        return end

    def finish(self, action: Action) -> None:
        self.writes(action)
        for target in self.after[action]:
            self.missing[target] -= 1
            if self.missing[target] == 0:
                self.ready.add(target)

    def reads(self, action: Action) -> None:
        s, op, i = action
        if op == "F":
            lag = self.oracle.lag()
            self.read[s, i] = max(0, i // self.oracle.every - lag) if lag else self.shown[s]
        if op == self.oracle.back(s):
            stashed = self.oracle.weights["backward"] == "same"
            self.between[s, i] = 0 if stashed else self.version[s] - self.read[s, i]

    def writes(self, action: Action) -> None:
        s, op, i = action
        if op == "U":
            for m in range(i * self.oracle.every, min((i + 1) * self.oracle.every, self.oracle.n)):
                self.applied[s, m] = self.version[s] - self.read[s, m]
            self.version[s] += 1
        if op == "SEND_U" or (op == "U" and (s, "SEND_U", i) not in self.oracle.actions):
            self.shown[s] += 1

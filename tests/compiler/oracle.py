"""The schedule language once more, as plainly as its description has it: edges, streams, and a list scheduler.

It reads the YAML itself, evaluates expressions with Python, and runs n microbatches one instant at a time. Slow, and
independent of everything that the compiler does.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from fractions import Fraction
from typing import Any

from ruamel.yaml import YAML

__all__ = ["Oracle"]

Action = tuple[int, str, int]
DEFAULT_COSTS = {"F": "1", "B": "2", "I": "1", "W": "1", "U": "0"}


class Oracle:
    def __init__(self, text: str, stages: int, n: int) -> None:
        self.file: dict[str, Any] = YAML(typ="safe").load(text)
        self.S, self.n = stages, n
        self.every = int(self.file.get("update", {}).get("every", 1))
        self.D = self.value(self.file.get("devices", 1), {"S": stages})
        self.place = [self.value(self.file.get("place", "s * D // S"), {"s": s}) for s in range(stages)]
        self.streams: list[dict[str, Any]] = []
        self.stream_of: dict[Action, int] = {}
        for group in self.file["streams"].values():
            self.add_group(group)
        self.split = any("W" in stream["runs"] for stream in self.streams)
        self.actions = set(self.stream_of)
        self.before = {action: set(self.sources(action)) & self.actions for action in self.actions}

    # -- expressions, costs ----------------------------------------------------------------------

    def value(self, text: Any, names: dict[str, int]) -> int:
        scope = {"S": self.S, "last": self.S - 1, **names}
        if "D" not in scope and hasattr(self, "D"):
            scope["D"] = self.D
        return int(eval(str(text), {"__builtins__": {}}, scope))

    def cost(self, action: Action) -> Fraction:
        stage, op, _ = action
        times = self.file.get("costs", {}).get(op, DEFAULT_COSTS[op])
        times = times if isinstance(times, list) else [times]
        return Fraction(str(times[stage] if len(times) > 1 else times[0]))

    def count(self, op: str) -> int:
        """How many actions of this op a stage has."""
        return -(-self.n // self.every) if op == "U" else self.n

    def microbatch(self, action: Action) -> int:
        return action[2] * self.every + self.every - 1 if action[1] == "U" else action[2]

    def names(self, op: str, index: int) -> dict[str, int]:
        g = index if op == "U" else index // self.every
        lo, hi = g * self.every, min((g + 1) * self.every, self.n) - 1
        return {"g": g, "lo": lo, "hi": hi} | ({} if op == "U" else {"m": index})

    # -- streams ---------------------------------------------------------------------------------

    def add_group(self, group: dict[str, Any]) -> None:
        low, _, high = str(group.get("stages", "0..last")).partition("..")
        served = list(range(self.value(low, {}), self.value(high or low, {}) + 1))
        if group.get("per") == "stage":
            parts = [[s] for s in served]
        elif group.get("per") == "device":
            parts = [[s for s in served if self.place[s] == d] for d in sorted({self.place[s] for s in served})]
        else:
            parts = [served] * int(group.get("count", 1))
        first = len(self.streams)
        for i, part in enumerate(parts):
            self.streams.append({"runs": group["runs"], "order": self.order(group), "queue": None})
            if "body" in group:
                nth = (1, 0) if group.get("per") else (len(parts), i)
                self.streams[-1]["queue"] = list(self.body(group["body"], part, *nth))
                self.stream_of |= dict.fromkeys(self.streams[-1]["queue"], first + i)
        if "body" not in group:
            self.assign(group, parts, first)

    def order(self, group: dict[str, Any]) -> list[str]:
        stated = list(group.get("order", []))
        return stated + [op for op in "UBIFW" if op not in stated]

    def assign(self, group: dict[str, Any], parts: list[list[int]], first: int) -> None:
        for op in group["runs"]:
            for index in range(self.count(op)):
                by_update = op == "U" and group["runs"] == ["U"]
                turn = (index if by_update else self.microbatch((0, op, index))) % len(parts)
                for i, part in enumerate(parts):
                    if group.get("per") or i == turn:
                        self.stream_of |= {(s, op, index): first + i for s in part}

    def body(self, lines: list[str], part: list[int], count: int, turn: int) -> Iterator[Action]:
        """One iteration per m until drained; U only where its microbatch is the last of its update."""
        for m in range(-200, self.n + 200):
            if m % count != turn:
                continue
            for line in lines:
                op, stage, index = re.fullmatch(r"(\w)\[(.+?),(.+)\]", line).groups()  # type: ignore[union-attr]
                stages = part if stage == "*" else [self.value(stage, {"s": part[0], "d": self.place[part[0]]})]
                for s in stages if op == "F" else reversed(stages):
                    microbatch = self.value(index.strip(), {"m": m, "s": s, "d": self.place[part[0]]})
                    if not 0 <= microbatch < self.n:
                        continue
                    if op != "U":
                        yield s, op, microbatch
                    elif (microbatch + 1) % self.every == 0 or microbatch + 1 == self.n:
                        yield s, op, microbatch // self.every

    # -- edges -----------------------------------------------------------------------------------

    def sources(self, action: Action) -> Iterator[Action]:
        """What `action` waits for, with indices that may not exist."""
        s, op, i = action
        gradient, back = ("W", "I") if self.split else ("B", "B")
        if op == "F":
            yield s - 1, "F", i
            if "in_flight" in self.file:
                yield s, gradient, i - self.value(self.file["in_flight"], {"s": s})
        if op == back:
            yield s, "F", i
            yield s + 1, back, i
        if op == "W":
            yield s, "I", i
        if op == "U":
            yield from ((s, gradient, m) for m in range(i * self.every, (i + 1) * self.every))
            if self.file.get("update", {}).get("write", "ordered") == "ordered":
                yield s, "U", i - 1
        for rule in self.file.get("rules", []):
            yield from self.rule_sources(rule, action)

    def rule_sources(self, rule: str, action: Action) -> Iterator[Action]:
        s, op, i = action
        rule, _, when = rule.partition(" when ")
        target, _, source = rule.partition(" after ")
        ops, stage, _ = re.fullmatch(r"([\w ]+?) ?\[(.+?),(.+)\]", target).groups()  # type: ignore[union-attr]
        other, where, index = re.fullmatch(r"(\w)\[(.+?),(.+)\]", source).groups()  # type: ignore[union-attr]
        if op not in ops.split() or (stage != "s" and self.value(stage, {}) != s):
            return
        for k in range(self.S):
            scope = {**self.names(op, i), "s": s}
            if where != "*" and self.value(where, scope) != k:
                continue
            scope["s"] = k if where == "*" else s
            if not when or self.value(when, scope):
                yield k, other, self.value(index.strip(), scope)

    # -- the clock -------------------------------------------------------------------------------

    def run(self) -> dict[Action, tuple[Fraction, Fraction]]:
        """(start, end) of every action: finish what ends, settle what is free, then start; never idle while ready."""
        times: dict[Action, tuple[Fraction, Fraction]] = {}
        missing = {action: len(before) for action, before in self.before.items()}
        after: dict[Action, list[Action]] = {action: [] for action in self.actions}
        for action, before in self.before.items():
            for source in before:
                after[source].append(action)
        self.ready = {action for action, count in missing.items() if count == 0}
        busy: dict[int, Fraction] = {}
        running: dict[Action, Fraction] = {}
        now = Fraction(0)

        def finish(action: Action) -> None:
            for target in after[action]:
                missing[target] -= 1
                if missing[target] == 0:
                    self.ready.add(target)

        while True:
            for action in [a for a, end in running.items() if end == now]:
                del running[action], busy[self.stream_of[action]]
                finish(action)
            while (free := self.next_free(busy)) is not None:
                times[free] = (now, now)
                self.take(free)
                finish(free)
            for stream in range(len(self.streams)):
                if stream not in busy and (action_ := self.most_urgent(stream)) is not None:
                    end = now + self.cost(action_)
                    times[action_] = (now, end)
                    busy[stream] = running[action_] = end
                    self.take(action_)
            if not running:
                return times
            now = min(running.values())

    def heads(self) -> set[Action]:
        return {queue[0] for stream in self.streams if (queue := stream["queue"])}

    def startable(self, busy: dict[int, Fraction]) -> list[Action]:
        heads = self.heads()
        bodies = [stream["queue"] is not None for stream in self.streams]
        found = []
        for action in self.ready:
            stream = self.stream_of[action]
            if stream not in busy and (not bodies[stream] or action in heads):
                found.append(action)
        return found

    def next_free(self, busy: dict[int, Fraction]) -> Action | None:
        free = [action for action in self.startable(busy) if self.cost(action) == 0]
        return min(free, key=lambda a: (a[1] != "U", self.microbatch(a), self.depth(a)), default=None)

    def most_urgent(self, stream: int) -> Action | None:
        ready = [action for action in self.startable({}) if self.stream_of[action] == stream]
        order = self.streams[stream]["order"]
        return min(ready, key=lambda a: (order.index(a[1]), self.microbatch(a), self.depth(a)), default=None)

    def depth(self, action: Action) -> int:
        return action[0] if action[1] == "F" else self.S - 1 - action[0]

    def take(self, action: Action) -> None:
        self.ready.discard(action)
        queue = self.streams[self.stream_of[action]]["queue"]
        if queue is not None:
            queue.pop(0)

"""The schedule language once more, as plainly as its description has it: actions, streams and edges of n microbatches.

It reads the YAML itself and evaluates expressions with Python. Slow, and independent of everything that the compiler
does, but for the published tables, which have tests of their own.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from fractions import Fraction
from math import ceil
from typing import Any

from ruamel.yaml import YAML

from asyncpipe.tables.generate import rows

__all__ = ["Action", "Oracle", "by_update"]

Action = tuple[int, str, int]
DEFAULT_COSTS = {"F": "1", "B": "2", "I": "1", "W": "1", "U": "0", "SYNC": "0", "SEND": "0"}
DEFAULT_ORDER = ["U", "B", "I", "F", "R", "W"]
TRANSFERS = ["SEND_U", "SEND_B", "SEND_F", "SEND_A"]
REFERENCE = r"(\w+)\[(.+?),(.+)\]"


def by_update(op: str) -> bool:
    """Whether the op's index counts updates."""
    return op in ("U", "SYNC", "SEND_U")


class Oracle:
    """`actions`, their `before`, and the `streams`: each a name, a device, an order, and a queue or None."""

    def __init__(self, text: str, stages: int, n: int) -> None:
        self.file: dict[str, Any] = YAML(typ="safe").load(text)
        self.S, self.n = stages, n
        self.update: dict[str, Any] = {"every": 1, "write": "ordered", "scope": "all", **self.file.get("update", {})}
        self.every = int(self.update["every"])
        self.weights: dict[str, Any] = {"forward": "latest", "backward": "latest", **self.file.get("weights", {})}
        self.D = self.value(self.file.get("devices", 1), {})
        listed = self.file.get("place", "s * D // S")
        self.place = [
            d if isinstance(listed, list) else self.value(listed, {"s": s}) for s, d in enumerate(self._each(listed))
        ]
        self.recomputed = self.stages_with("recompute", "mode", "none", "0..last")
        self.local = self.stages_with("aux", "gradient", "chain", "0..last-1")
        self.groups: dict[str, Any] = {k: v for k, v in self.file["streams"].items() if k != "ratio"}
        self.ran = {(s, op) for group in self.groups.values() for op in group["runs"] for s in self.served(group)}
        self.ran -= {(s, "R") for s in range(stages) if s not in self.recomputed}
        self.workers = max(int(group.get("count", 1)) for group in self.groups.values())
        self.streams: list[dict[str, Any]] = []
        self.stream_of: dict[Action, int] = {}
        for (name, group), count in zip(self.groups.items(), self.counts(), strict=True):
            self.add_group(name, group, count)
        self.add_replicas()
        self.actions = {action for action in self.stream_of if self.exists(action)}
        self.before = {a: {self.meant(b) for b in self.sources(a)} & self.actions for a in self.actions}
        self.add_transfers()

    def _each(self, listed: Any) -> list[int]:
        return listed if isinstance(listed, list) else [0] * self.S

    # -- expressions, costs ----------------------------------------------------------------------

    def value(self, text: Any, names: dict[str, int]) -> int:
        scope = {"S": self.S, "last": self.S - 1, **names}
        if "D" not in scope and hasattr(self, "D"):
            scope["D"] = self.D
        return int(eval(str(text), {"__builtins__": {}}, scope))

    def span(self, text: Any) -> range:
        low, _, high = str(text).partition("..")
        return range(self.value(low, {}), self.value(high or low, {}) + 1)

    def stages_with(self, key: str, mode: str, none: str, default: str) -> range:
        """The stages that `recompute` or `aux` is for."""
        stated = self.file.get(key, none)
        stated = stated if isinstance(stated, dict) else {mode: stated}
        return range(0) if stated[mode] == none else self.span(stated.get("stages", default))

    def cost(self, action: Action) -> Fraction:
        """A recompute that no stream runs is part of the backward."""
        stage, op, _ = action
        recompute = self.file.get("recompute", "none")
        full = (recompute["mode"] if isinstance(recompute, dict) else recompute) == "full"
        inside = full and op in ("B", "I") and stage in self.recomputed and not any(o == "R" for _, o in self.ran)
        return self.time(op, stage) + (self.time("R", stage) if inside else 0)

    def time(self, op: str, stage: int) -> Fraction:
        costs = self.file.get("costs", {})
        key = "SEND" if op.startswith("SEND") else "F" if op == "R" and "R" not in costs else op
        times = costs.get(key, DEFAULT_COSTS.get(key))
        times = times if isinstance(times, list) else [times]
        return Fraction(str(times[stage] if len(times) > 1 else times[0]))

    def count(self, op: str) -> int:
        """How many indices this op has."""
        return -(-self.n // self.every) if by_update(op) else self.n

    def microbatch(self, action: Action) -> int:
        return action[2] * self.every + self.every - 1 if by_update(action[1]) else action[2]

    def names(self, op: str, index: int) -> dict[str, int]:
        g = index if by_update(op) else index // self.every
        lo, hi = g * self.every, min((g + 1) * self.every, self.n) - 1
        return {"g": g, "lo": lo, "hi": hi} | ({} if by_update(op) else {"m": index})

    # -- streams ---------------------------------------------------------------------------------

    def served(self, group: dict[str, Any]) -> range:
        return self.span(group.get("stages", "0..last"))

    def counts(self) -> list[int]:
        """Streams of each group; `ratio: auto` has as many as keep up with the group that has the least to do."""
        ratio = self.file["streams"].get("ratio")
        if ratio is None:
            return [int(group.get("count", 1)) for group in self.groups.values()]
        if ratio != "auto":
            return [int(part) for part in str(ratio).split(":")]
        work = [sum(map(self.work, self.cells_of(group)), Fraction(0)) for group in self.groups.values()]
        least = min((w for w in work if w), default=Fraction(1))
        return [max(1, ceil(w / least)) for w in work]

    def cells_of(self, group: dict[str, Any]) -> list[tuple[int, str]]:
        return [(s, op) for op in group["runs"] for s in self.served(group)]

    def work(self, cell: tuple[int, str]) -> Fraction:
        """Time for each microbatch."""
        return self.cost((*cell, 0)) / (self.every if cell[1] == "U" else 1)

    def add_group(self, name: str, group: dict[str, Any], count: int) -> None:
        served, per = list(self.served(group)), group.get("per")
        if per == "stage":
            parts = [[s] for s in served]
        elif per == "device":
            parts = [[s for s in served if self.place[s] == d] for d in sorted({self.place[s] for s in served})]
        else:
            parts = [served] * count
        first = len(self.streams)
        for i, part in enumerate(parts):
            self.add_stream(name if len(parts) == 1 else f"{name}[{i}]", self.device(group, part, i), self.order(group))
            if "body" in group or "table" in group:
                queue = self.body(group, part, len(parts), i) if "body" in group else self.table(group, part)
                self.streams[-1]["queue"] = list(queue)
                self.stream_of |= dict.fromkeys(self.streams[-1]["queue"], first + i)
        if "body" not in group and "table" not in group:
            self.assign(group, parts, first)
        if group.get("assign") == "dynamic":
            for stream in self.streams[first:]:
                stream["pool"] = name

    def add_stream(self, name: str, device: int, order: list[str]) -> None:
        self.streams.append({"name": name, "device": device, "order": order, "queue": None, "pool": None})

    def device(self, group: dict[str, Any], part: list[int], i: int) -> int:
        if "device" in group:
            (device,) = {self.value(group["device"], {"s": s, "i": i}) for s in part}
        else:
            (device,) = {self.place[s] for s in part}
        return device

    def order(self, group: dict[str, Any]) -> list[str]:
        stated = list(group.get("order", []))
        return stated + [op for op in DEFAULT_ORDER if op not in stated]

    def assign(self, group: dict[str, Any], parts: list[list[int]], first: int) -> None:
        for op in group["runs"]:
            for index in range(self.count(op)):
                turn = (index if group["runs"] == ["U"] else self.microbatch((0, op, index))) % len(parts)
                for i, part in enumerate(parts):
                    if group.get("per") or i == turn:
                        self.stream_of |= {(s, op, index): first + i for s in part if (s, op) in self.ran}

    def body(self, group: dict[str, Any], part: list[int], count: int, turn: int) -> Iterator[Action]:
        """One iteration per m until drained; U only where its microbatch is the last of its update."""
        for m in range(-200, self.n + 200):
            if not group.get("per") and m % count != turn:
                continue
            for line in group["body"]:
                op, stage, index = re.fullmatch(REFERENCE, line).groups()  # type: ignore[union-attr]
                stages = part if stage == "*" else [self.value(stage, {"s": part[0], "d": self.place[part[0]]})]
                for s in stages if op == "F" else reversed(stages):
                    microbatch = self.value(index.strip(), {"m": m, "s": s, "d": self.place[part[0]]})
                    found = (s, op, microbatch // self.every if op == "U" else microbatch)
                    ends_update = (microbatch + 1) % self.every == 0 or microbatch + 1 == self.n
                    runs = (s, op) in self.ran and 0 <= microbatch < self.n and (op != "U" or ends_update)
                    if runs and self.exists(found):
                        yield found

    def table(self, group: dict[str, Any], part: list[int]) -> Iterator[Action]:
        """The device's row for each update; updates that it does not name come last, as their gradients end."""
        named = group["table"]
        if isinstance(named, str):
            listed = [[(a.stage, a.op.value, a.index) for a in row] for row in rows(named, self.D, self.S, self.every)]
        else:
            cells = [[re.fullmatch(r"(\d+)([A-Z]+)(\d+)", cell) for cell in row.split()] for row in named]
            listed = [[(int(c[1]), c[2], int(c[3])) for c in row if c] for row in cells]
        row = listed[self.place[part[0]]]
        if "U" in group["runs"] and not any(op == "U" for _, op, _ in row):
            last = {s: i for i, (s, op, _) in enumerate(row) if op in ("B", "W")}
            row += [(s, "U", 0) for s in sorted(part, key=last.__getitem__)]
        for g in range(-(-self.n // self.every)):
            for s, op, i in row:
                if op == "U":
                    yield s, op, g
                elif g * self.every + i < self.n:
                    yield s, op, g * self.every + i

    # -- what exists -----------------------------------------------------------------------------

    def sync(self) -> tuple[str, Any]:
        replicas = self.file.get("replicas", {"count": 1, "sync": {"allreduce": "grad"}})
        ((kind, value),) = replicas["sync"].items()
        return ("none", 0) if replicas["count"] == 1 else (kind, value)

    def add_replicas(self) -> None:
        """Each device synchronises the stages that it updates, one after another, on a stream of its own."""
        if self.sync()[0] == "none":
            return
        homes = [self.streams[self.stream_of[s, "U", 0]]["device"] for s in range(self.S)]
        devices = sorted(set(homes))
        for device in devices:
            self.add_stream("sync" if len(devices) == 1 else f"sync[{device}]", device, ["SYNC"])
            own = [s for s in range(self.S) if homes[s] == device]
            self.stream_of |= {(s, "SYNC", g): len(self.streams) - 1 for s in own for g in range(self.count("SYNC"))}

    def exists(self, action: Action) -> bool:
        """Under `scope` a worker has the backward of its own block and above, and the update of its block."""
        s, op, i = action
        if op == "SYNC":
            kind, value = self.sync()
            every = value["every"] if isinstance(value, dict) and "every" in value else value
            return kind not in ("average", "outer") or (i + 1) % every == 0
        if self.update["scope"] == "all" or op == "F":
            return True
        return s >= self.lowest(i) if op != "U" else self.whole(i) or s in self.block(i)

    def whole(self, m: int) -> bool:
        return self.update["scope"] == "all" or (self.update["scope"] == "alternate" and m // self.workers % 2 == 0)

    def block(self, m: int) -> list[int]:
        """The stages of the worker that takes microbatch m: equal shares, in the order of the stages."""
        return [s for s in range(self.S) if s * self.workers // self.S == m % self.workers]

    def lowest(self, m: int) -> int:
        """The lowest stage that the backward of microbatch m reaches."""
        return 0 if self.whole(m) else self.block(m)[0]

    def meant(self, action: Action) -> Action:
        """A backward that ends above the stage has ended at its lowest one; an update is the last one before."""
        s, op, i = action
        if op in ("B", "I", "W", "R"):
            return max(s, self.lowest(i)), op, i
        while op == "U" and i > 0 and not self.exists((s, op, i)):
            i -= 1
        return s, op, i

    # -- edges -----------------------------------------------------------------------------------

    def gradient(self, s: int) -> str:
        return "B" if (s, "B") in self.ran else "W"

    def back(self, s: int) -> str:
        return "B" if (s, "B") in self.ran else "I"

    def sources(self, action: Action) -> Iterator[Action]:
        """What `action` waits for, with indices that may not exist."""
        s, op, i = action
        if op == "F":
            yield s - 1, "F", i
            if "in_flight" in self.file:
                limit = self.value(self.file["in_flight"], {"s": s})
                yield s, self.gradient(s), i - limit
                if s in self.local:
                    yield s + 1, "F", i - limit
            if lag := self.lag():
                yield s, "U", i // self.every - 1 - lag
        if op == "R":
            yield s, "F", i
        if op == self.back(s):
            yield s, "F", i
            yield s, "R", i
            if s not in self.local and s + 1 < self.S:
                yield s + 1, self.back(s + 1), i
        if op == "W":
            yield s, "I", i
        if op == "U":
            yield from ((s, self.gradient(s), m) for m in range(i * self.every, (i + 1) * self.every))
            if self.update["write"] == "ordered":
                yield s, "U", i - 1
        yield from self.sync_sources(action)
        for rule in self.file.get("rules", []):
            yield from self.rule_sources(rule, action)

    def lag(self) -> int:
        match = re.fullmatch(r"lag\((\d+)\)", self.weights["forward"])
        return int(match[1]) if match else 0

    def sync_sources(self, action: Action) -> Iterator[Action]:
        """A blocking synchronisation joins all updates since the last one, and all that follow wait for it."""
        s, op, i = action
        kind, value = self.sync()
        stated = value if isinstance(value, dict) else {}
        every = stated.get("every", value) if kind in ("average", "outer") else 1
        blocking = kind == "outer" or (kind == "average" and stated.get("blocking", True))
        last = (i if by_update(op) else i // self.every) // every * every - 1
        if kind == "allreduce" and op == "SYNC":
            yield from ((s, self.gradient(s), m) for m in range(i * self.every, (i + 1) * self.every))
        if kind == "allreduce" and op == "U":
            yield s, "SYNC", i
        if kind in ("average", "outer", "push") and op == "SYNC":
            joined = range(last + 1, i + 1) if blocking and self.update["write"] != "ordered" else [i]
            stages = range(self.S) if stated.get("granularity") == "model" else [s]
            yield from ((k, "U", g) for k in stages for g in joined)
        if blocking and op in ("F", "U"):
            yield s, "SYNC", last

    def rule_sources(self, rule: str, action: Action) -> Iterator[Action]:
        s, op, i = action
        rule, _, when = rule.partition(" when ")
        target, _, source = rule.partition(" after ")
        ops, stage, _ = re.fullmatch(r"([\w ]+?) ?\[(.+?),(.+)\]", target).groups()  # type: ignore[union-attr]
        other, where, index = re.fullmatch(REFERENCE, source).groups()  # type: ignore[union-attr]
        if op not in ops.split() or (stage != "s" and self.value(stage, {}) != s):
            return
        for k in range(self.S):
            scope = {**self.names(op, i), "s": s}
            if where != "*" and self.value(where, scope) != k:
                continue
            scope["s"] = k if where == "*" else s
            if not when or self.value(when, scope):
                yield k, other, self.value(index.strip(), scope)

    # -- transfers -------------------------------------------------------------------------------

    def add_transfers(self) -> None:
        """A copy, on a stream for its direction, wherever a result is needed on another device than it is made."""
        home = {action: self.streams[self.stream_of[action]]["device"] for action in self.actions}
        made: dict[Action, Action] = {}
        for s, op, i in list(self.actions):
            for send, reader in self.readers((s, op, i)):
                if reader in self.actions and home[reader] != home[s, op, i]:
                    copy = (s, send, i)
                    made[s, op, i] = copy
                    self.stream_of[copy] = self.copy_stream(home[s, op, i], home[reader])
                    self.before[copy] = {(s, op, i)}
                    if send != "SEND_U":
                        self.before[reader].add(copy)
        for target, before in self.before.items():
            if not by_update(target[1]):
                before |= {made[source] for source in before if source[1] == "U" and source in made}
        self.actions |= set(self.before)

    def readers(self, action: Action) -> Iterator[tuple[str, Action]]:
        s, op, i = action
        if op == "F":
            yield "SEND_F", (s + 1, "F", i)
            yield "SEND_A", (s, "R", i) if (s, "R") in self.ran else (s, self.back(s), i)
        if op in ("B", "I") and s > 0 and s - 1 not in self.local:
            yield "SEND_B", (s - 1, self.back(s - 1), i)
        if op == "U":
            yield "SEND_U", (s, "F", i * self.every)

    def copy_stream(self, source: int, target: int) -> int:
        name = f"copy[{source}->{target}]"
        numbers = [i for i, stream in enumerate(self.streams) if stream["name"] == name]
        if not numbers:
            self.add_stream(name, source, TRANSFERS)
        return numbers[0] if numbers else len(self.streams) - 1

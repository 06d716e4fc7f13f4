"""The language of schedules once more, as plainly as its description has it: which actions exist, what waits for what.

It reads the YAML itself, evaluates expressions with Python, and writes n microbatches out one by one. Slow, and
independent of the compiler, from which it takes only the generated tables.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from asyncpipe.tables import rows

__all__ = ["FOLDER", "PlainAction", "PlainDiagram", "read_file"]

FOLDER = Path(__file__).resolve().parents[2] / "schedules"
PlainAction = tuple[int, str, int]
"""(stage, op, index); the index of U, SYNC and SEND_U counts updates, all others count microbatches."""
BY_UPDATE = ("U", "SYNC", "SEND_U")
ORDER = ["U", "B", "I", "F", "R", "W"]
COPIES = ["SEND_U", "SEND_B", "SEND_F", "SEND_A"]
COSTS = {"F": "1", "B": "2", "I": "1", "W": "1", "U": "0", "SYNC": "0", "SEND": "0"}
OWN = ("name", "description", "expect", "extends", "job")


def read_file(name: str) -> dict[str, Any]:
    """A file of the library with what it extends: mappings merge, anything else replaces, null removes."""
    found: dict[str, Any] = YAML(typ="safe").load((FOLDER / f"{name}.yaml").read_text("utf-8"))
    if "extends" not in found:
        return found
    base = {key: value for key, value in read_file(found["extends"]).items() if key not in OWN}
    merged: dict[str, Any] = merge(base, found)
    return merged


def merge(base: Any, change: Any) -> Any:
    if not (isinstance(base, dict) and isinstance(change, dict)):
        return change
    both = {**base, **{key: merge(base.get(key), value) for key, value in change.items()}}
    return {key: value for key, value in both.items() if value is not None}


class PlainDiagram:
    """All actions of n microbatches with their streams, costs and edges; `changes` are merged into the file."""

    def __init__(self, name: str, stages: int, n: int, changes: dict[str, Any] | None = None) -> None:
        self.file = merge(read_file(name), changes or {})
        self.S, self.n, self.last = stages, n, stages - 1
        update, weights = self.file.get("update", {}), self.file.get("weights", {})
        self.every = int(update.get("every", 1))
        self.scope = update.get("scope", "all")
        self.is_ordered = update.get("write", "ordered") == "ordered"
        lag = re.fullmatch(r"lag\((\d+)\)", str(weights.get("forward", "latest")))
        self.lag = int(lag[1]) if lag else None
        self.stashes = weights.get("backward") == "same"
        self.D = self.value(self.file.get("devices", 1), {})
        place = self.file.get("place", "s * D // S")
        self.place = place if isinstance(place, list) else [self.value(place, {"s": s}) for s in range(stages)]
        self.names: list[str] = []
        self.device: list[int] = []
        self.order: list[list[str]] = []
        self.queue: list[list[PlainAction] | None] = []
        self.stream_of: dict[PlainAction, int] = {}
        self.recomputed = self.recomputed_stages()
        self.local = self.span(self.file["aux"].get("stages", "0..last-1")) if "aux" in self.file else range(0)
        self.workers = 1
        self.add_groups()
        self.split = any(op == "W" for _, op, _ in self.stream_of)
        self.back = "I" if self.split else "B"
        self.gradient = "W" if self.split else "B"
        self.add_replicas()
        self.add_transfers()
        self.before = {a: {s for s in self.sources(a) if s in self.stream_of} for a in self.stream_of}
        self.costs = {(s, op): self.cost_of(s, op) for s, op in {action[:2] for action in self.stream_of}}

    # -- expressions, costs, indices -----------------------------------------------------------------------

    def value(self, text: Any, names: dict[str, int]) -> int:
        scope = {"S": self.S, "last": self.last, **names}
        if hasattr(self, "D"):
            scope["D"] = self.D
        return int(eval(str(text), {"__builtins__": {}}, scope))

    def span(self, text: str) -> range:
        low, _, high = str(text).partition("..")
        return range(self.value(low, {}), self.value(high or low, {}) + 1)

    def recomputed_stages(self) -> range:
        recompute = self.file.get("recompute", "none")
        if recompute == "none":
            return range(0)
        return range(self.S) if isinstance(recompute, str) else self.span(recompute.get("stages", "0..last"))

    def cost(self, action: PlainAction) -> Fraction:
        return self.costs[action[:2]]

    def cost_of(self, stage: int, op: str) -> Fraction:
        spent = self.time("SEND" if op in COPIES else op, stage)
        mode = self.file.get("recompute", "none")
        full = (mode if isinstance(mode, str) else mode["mode"]) == "full"
        hidden = full and op == self.back and stage in self.recomputed and not any("R" in o for o in self.runs)
        return spent + self.time("R", stage) if hidden else spent

    def time(self, op: str, stage: int) -> Fraction:
        stated = self.file.get("costs", {})
        times = stated.get(op, self.file.get("costs", {}).get("F", COSTS["F"]) if op == "R" else COSTS.get(op))
        times = times if isinstance(times, list) else [times]
        return Fraction(str(times[stage] if len(times) > 1 else times[0]))

    def microbatch(self, action: PlainAction) -> int:
        """The microbatch of an action, for an update the last one that it applies."""
        return (action[2] + 1) * self.every - 1 if action[1] in BY_UPDATE else action[2]

    # -- who runs what -------------------------------------------------------------------------------------

    def add_groups(self) -> None:
        groups = {name: group for name, group in self.file["streams"].items() if name != "ratio"}
        ratio = str(self.file["streams"].get("ratio", "")).split(":")
        self.runs = [group["runs"] for group in groups.values()]
        for number, (name, group) in enumerate(groups.items()):
            count = int(ratio[number]) if len(ratio) > 1 else int(group.get("count", 1))
            self.add_group(name, group, count)

    def add_group(self, name: str, group: dict[str, Any], count: int) -> None:
        served = self.span(group.get("stages", "0..last"))
        parts = [list(served)] * count
        if group.get("per") == "stage":
            parts = [[s] for s in served]
        elif group.get("per") == "device":
            devices = sorted({self.place[s] for s in served})
            parts = [[s for s in served if self.place[s] == d] for d in devices]
        first = len(self.names)
        for i, part in enumerate(parts):
            device = self.value(group["device"], {"s": part[0], "i": i}) if "device" in group else self.place[part[0]]
            self.add_stream(f"{name}[{i}]" if len(parts) > 1 else name, device, group.get("order", []))
            if "table" in group or "body" in group:
                fixed = self.table(group, part) if "table" in group else self.body(group["body"], part)
                self.queue[-1] = [a for a in fixed if self.exists(a)]
                self.stream_of |= dict.fromkeys(self.queue[-1] or [], first + i)
        if "U" in group["runs"] and "per" not in group:
            self.workers = len(parts)
        if "table" not in group and "body" not in group:
            self.assign(group, parts, first)

    def add_stream(self, name: str, device: int, order: list[str]) -> int:
        self.names.append(name)
        self.device.append(device)
        self.order.append([*order, *(op for op in [*ORDER, *COPIES, "SYNC"] if op not in order)])
        self.queue.append(None)
        return len(self.names) - 1

    def assign(self, group: dict[str, Any], parts: list[list[int]], first: int) -> None:
        for op in group["runs"]:
            for index in range(self.n // self.every if op == "U" else self.n):
                turn = index if group["runs"] == ["U"] else self.microbatch((0, op, index))
                for i, part in enumerate(parts):
                    if "per" in group or turn % len(parts) == i:
                        mine = [(s, op, index) for s in part if self.exists((s, op, index))]
                        self.stream_of |= dict.fromkeys(mine, first + i)

    def body(self, lines: list[str], part: list[int]) -> Iterator[PlainAction]:
        """One iteration for each m until drained; U only where its microbatch ends an update."""
        for m in range(-2 * self.S, self.n + 2 * self.S):
            for line in lines:
                op, stage, index = re.fullmatch(r"(\w)\[(.+?),(.+)\]", line).groups()  # type: ignore[union-attr]
                s = self.value(stage, {"s": part[0]})
                microbatch = self.value(index.strip(), {"m": m, "s": s})
                if 0 <= microbatch < self.n and op != "U":
                    yield s, op, microbatch
                elif 0 <= microbatch < self.n and (microbatch + 1) % self.every == 0:
                    yield s, op, microbatch // self.every

    def table(self, group: dict[str, Any], part: list[int]) -> Iterator[PlainAction]:
        """One window for each update; what updates the table does not name come after it, by their last gradients."""
        row = rows(group["table"], self.D, self.S, self.every)[self.place[part[0]]]
        cells = [cell for action in row for cell in self.cells(action.stage, str(action.op), action.index, group)]
        finished = list(dict.fromkeys(s for s, op, _ in reversed(cells) if op in "BW"))[::-1]
        for g in range(self.n // self.every):
            yield from ((s, op, m + g * self.every) for s, op, m in cells)
            yield from ((s, "U", g) for s in finished)

    def cells(self, s: int, op: str, m: int, group: dict[str, Any]) -> list[PlainAction]:
        """A whole backward as its halves, where the group runs halves."""
        return [(s, "I", m), (s, "W", m)] if op == "B" and "B" not in group["runs"] else [(s, op, m)]

    # -- partitions ----------------------------------------------------------------------------------------

    def lowest(self, m: int) -> int:
        """The lowest stage that the backward of a microbatch reaches: that of its worker's own block."""
        worker, turn = m % self.workers, m // self.workers
        if self.scope == "all" or (self.scope == "alternate" and turn % 2 == 0):
            return 0
        return min(s for s in range(self.S) if s * self.workers // self.S == worker)

    def exists(self, action: PlainAction) -> bool:
        s, op, i = action
        if op == "R" and s not in self.recomputed:
            return False
        if self.scope == "all" or op == "F":
            return True
        self.workers = int(next(iter(self.file["streams"].values())).get("count", 1))
        whole = self.scope == "alternate" and i // self.workers % 2 == 0
        return whole or (s * self.workers // self.S == i % self.workers if op == "U" else s >= self.lowest(i))

    def nearest(self, action: PlainAction) -> PlainAction:
        """What a wait for an action that a partition leaves out means: the end of that backward, the update before."""
        s, op, i = action
        if op in "BIW":
            return max(s, self.lowest(i)), op, i
        while op == "U" and i >= 0 and action not in self.stream_of:
            i -= 1
            action = s, op, i
        return action

    # -- what the compiler adds ----------------------------------------------------------------------------

    def add_replicas(self) -> None:
        replicas = self.file.get("replicas", {"count": 1, "sync": {"none": {}}})
        ((self.sync, options),) = replicas["sync"].items()
        self.options: dict[str, Any] = options if isinstance(options, dict) else {}
        every = options if isinstance(options, int) else int(self.options.get("every", 1))
        if self.sync == "none":
            return
        devices = sorted(set(self.place))
        first = len(self.names)
        for d in devices:
            self.add_stream(f"sync[{d}]" if len(devices) > 1 else "sync", d, [])
        for g in range(every - 1, self.n // self.every, every):
            self.stream_of |= {(s, "SYNC", g): first + devices.index(self.place[s]) for s in range(self.S)}

    def device_of(self, action: PlainAction) -> int | None:
        return self.device[self.stream_of[action]] if action in self.stream_of else None

    def add_transfers(self) -> None:
        """Outputs go up, gradients down, activations to the backward, weights to the forward."""
        self.copies: dict[PlainAction, PlainAction] = {}
        first = "R" if any("R" in runs for runs in self.runs) else self.back
        for action in list(self.stream_of):
            s, op, i = action
            readers = {
                "F": [("SEND_F", (s + 1, "F", i)), ("SEND_A", (s, first, i)), ("SEND_A", (s, self.back, i))],
                self.back: [("SEND_B", (s - 1, self.back, i))] if s - 1 not in self.local else [],
                "U": [("SEND_U", (s, "F", i * self.every))],
            }.get(op, [])
            for send, reader in readers:
                device, there = self.device_of(action), self.device_of(reader)
                if device is not None and there is not None and device != there:
                    self.copies[s, send, i] = action
                    self.stream_of[s, send, i] = self.copy_stream(device, there)

    def copy_stream(self, device: int, there: int) -> int:
        name = f"copy[{device}->{there}]"
        return self.names.index(name) if name in self.names else self.add_stream(name, device, COPIES)

    # -- edges ---------------------------------------------------------------------------------------------

    def sources(self, action: PlainAction) -> Iterator[PlainAction]:
        """What an action waits for, with indices that may not exist."""
        s, op, i = action
        if action in self.copies:
            yield self.copies[action]
        for source in self.stated_sources(action):
            found = self.nearest(source)
            yield found
            if found[1] == "U" and op not in BY_UPDATE:
                yield found[0], "SEND_U", found[2]
        if op == "F":
            yield s - 1, "F", i
            yield s - 1, "SEND_F", i
        if op == self.back:
            yield from ((s, "F", i), (s, "R", i), (s, "SEND_A", i))
            if s not in self.local:
                yield from ((s + 1, self.back, i), (s + 1, "SEND_B", i))
        if op == "R":
            yield from ((s, "F", i), (s, "SEND_A", i))
        if op == "W":
            yield s, "I", i

    def stated_sources(self, action: PlainAction) -> Iterator[PlainAction]:
        """Edges of `in_flight`, `weights`, `update`, `replicas` and `rules`."""
        s, op, i = action
        if op == "F" and "in_flight" in self.file:
            yield s, self.gradient, i - self.value(self.file["in_flight"], {"s": s})
        if op == "F" and self.lag is not None:
            yield s, "U", i // self.every - 1 - self.lag
        if op == "U" or (op == "SYNC" and self.sync == "allreduce"):
            yield from ((s, self.gradient, m) for m in range(i * self.every, (i + 1) * self.every))
        if op == "U" and self.is_ordered:
            yield s, "U", i - 1
        if op == "U" and self.sync == "allreduce":
            yield s, "SYNC", i
        if op == "SYNC" and self.sync != "allreduce":
            whole = self.options.get("granularity") == "model"
            yield from ((k, "U", i) for k in (range(self.S) if whole else [s]))
        if self.sync in ("average", "outer") and self.options.get("blocking", True) and op in "FU":
            yield s, "SYNC", (i if op == "U" else i // self.every) - 1
        for rule in self.file.get("rules", []):
            yield from self.rule_sources(rule, action)

    def rule_sources(self, rule: str, action: PlainAction) -> Iterator[PlainAction]:
        s, op, i = action
        target, _, source = rule.partition(" after ")
        ops, stage, _ = re.fullmatch(r"([\w ]+?) ?\[(.+?),(.+)\]", target).groups()  # type: ignore[union-attr]
        other, where, index = re.fullmatch(r"(\w)\[(.+?),(.+)\]", source).groups()  # type: ignore[union-attr]
        if op not in ops.split() or (stage != "s" and self.value(stage, {}) != s):
            return
        g = i if op == "U" else i // self.every
        scope = {"g": g, "lo": g * self.every, "hi": (g + 1) * self.every - 1, "m": i, "s": s}
        for k in range(self.S) if where == "*" else [self.value(where, scope)]:
            yield k, other, self.value(index.strip(), {**scope, "s": k if where == "*" else s})

    def __str__(self) -> str:
        return json.dumps(self.file)

"""What a flat table means, once more and as plainly as possible: text, sets, one action after another."""

from __future__ import annotations

import random
import re
from collections import Counter
from collections.abc import Callable, Iterator

__all__ = ["end_times", "is_runnable", "lowered", "parts", "place_of", "problems", "random_rows", "sources"]

Rows = list[list[str]]
Parts = tuple[int, str, int]
COMPUTE = ("F", "B", "I", "W")
TRANSFERS = ("SEND_F", "RECV_F", "SEND_B", "RECV_B")


def parts(action: str) -> Parts:
    stage, op, microbatch = re.split(r"([A-Z_]+)", action)
    return int(stage), op, int(microbatch)


def place_of(rows: Rows) -> dict[int, int]:
    """Stage -> the device that has most of its actions, the first of them if several have."""
    counts: dict[int, Counter[int]] = {}
    for device, row in enumerate(rows):
        for action in row:
            counts.setdefault(parts(action)[0], Counter())[device] += 1
    return {stage: max(sorted(found), key=lambda d: found[d]) for stage, found in counts.items()}


def sources(action: str, place: dict[int, int], stages: int, lowered: bool) -> list[tuple[str, ...]]:
    """What an action needs: of each tuple one must have run. A SEND's receiver has it at the end of the SEND."""
    stage, op, m = parts(action)
    if op == "RECV_F":
        return [(f"{stage - 1}SEND_F{m}",)]
    if op == "RECV_B":
        return [(f"{stage + 1}SEND_B{m}",)]
    if op in ("SEND_F", "SEND_B"):
        return [(f"{stage}F{m}",)] if op == "SEND_F" else [(f"{stage}B{m}", f"{stage}I{m}")]
    if op == "W":
        return [(f"{stage}I{m}",)]
    needs: list[tuple[str, ...]] = [] if op == "F" else [(f"{stage}F{m}",)]
    neighbour = stage - 1 if op == "F" else stage + 1
    if 0 <= neighbour < stages:
        if lowered and place.get(neighbour) != place.get(stage):
            needs.append((f"{stage}RECV_{'F' if op == 'F' else 'B'}{m}",))
        else:
            needs.append((f"{neighbour}F{m}",) if op == "F" else (f"{neighbour}B{m}", f"{neighbour}I{m}"))
    return needs


def problems(rows: Rows, stages: int, microbatches: int, lowered: bool) -> set[str]:
    """The kinds of faults of a table; of deadlocks only where there are no others."""
    ops = COMPUTE + TRANSFERS if lowered else COMPUTE
    actions = [action for row in rows for action in row]
    if any(p[0] >= stages or p[2] >= microbatches or p[1] not in ops for p in map(parts, actions)):
        return {"range"}
    found = {"duplicate"} if len(set(actions)) < len(actions) else set()
    have = set(actions)
    for s in range(stages):
        for m in range(microbatches):
            if f"{s}F{m}" not in have:
                found.add("missing")
            if [op for op in ("B", "I", "W") if f"{s}{op}{m}" in have] not in (["B"], ["I", "W"]):
                found.add("backward")
    place = place_of(rows)
    if any(place[parts(action)[0]] != device for device, row in enumerate(rows) for action in row):
        found.add("device")
    elif have != set(_with_transfers(have, place, stages, lowered)):
        found.add("transfer")
    found |= _order_problems(rows, place, stages, lowered)
    return found or ({"deadlock"} if not is_runnable(rows, stages, lowered) else set())


def _with_transfers(have: set[str], place: dict[int, int], stages: int, lowered: bool) -> Iterator[str]:
    for action in have:
        stage, op, m = parts(action)
        if op not in COMPUTE:
            continue
        yield action
        up, down = place.get(stage + 1, place[stage]), place.get(stage - 1, place[stage])
        if lowered and op == "F" and up != place[stage]:
            yield from (f"{stage}SEND_F{m}", f"{stage + 1}RECV_F{m}")
        if lowered and op in ("B", "I") and down != place[stage]:
            yield from (f"{stage}SEND_B{m}", f"{stage - 1}RECV_B{m}")


def _order_problems(rows: Rows, place: dict[int, int], stages: int, lowered: bool) -> set[str]:
    for row in rows:
        here, seen = set(row), set[str]()
        for action in row:
            for choice in sources(action, place, stages, lowered):
                if here.intersection(choice) and not seen.intersection(choice):
                    return {"order"}
            seen.add(action)
    return set()


def is_runnable(rows: Rows, stages: int, lowered: bool) -> bool:
    return len(end_times(rows, stages, lowered, lambda _: 1, lambda a, b: 0)) == sum(map(len, rows))


def end_times(
    rows: Rows, stages: int, lowered: bool, cost: Callable[[str], int], latency: Callable[[int, int], int]
) -> dict[str, int]:
    """Each device runs its actions in order, each as soon as what it needs is there; those that run, and their ends."""
    place = place_of(rows)
    ends: dict[str, int] = {}
    at = [0] * len(rows)
    free = [0] * len(rows)
    moved = True
    while moved:
        moved = False
        for device, row in enumerate(rows):
            if at[device] == len(row):
                continue
            action = row[at[device]]
            choices = [[c for c in choice if c in ends] for choice in sources(action, place, stages, lowered)]
            if not all(choices):
                continue
            ready = [ends[c] + _delay(parts(c)[0], device, place, latency) for choice in choices for c in choice]
            free[device] = ends[action] = max([free[device], *ready]) + cost(action)
            at[device] += 1
            moved = True
    return ends


def _delay(stage: int, device: int, place: dict[int, int], latency: Callable[[int, int], int]) -> int:
    return 0 if place[stage] == device else latency(place[stage], device)


def random_rows(rng: random.Random, devices: int, stages: int, microbatches: int) -> Rows:
    """A table that runs to its end: devices take turns at random, each takes any action that it can run."""
    place = [rng.randrange(devices) for _ in range(stages)]
    halves = {(s, m) for s in range(stages) for m in range(microbatches) if rng.random() < 0.4}
    waiting = [f"{s}F{m}" for s in range(stages) for m in range(microbatches)]
    for s in range(stages):
        for m in range(microbatches):
            waiting += [f"{s}I{m}", f"{s}W{m}"] if (s, m) in halves else [f"{s}B{m}"]
    rows: Rows = [[] for _ in range(devices)]
    done: set[str] = set()
    while waiting:
        ready = [
            a
            for a in waiting
            if all(done.intersection(choice) for choice in sources(a, dict(enumerate(place)), stages, False))
        ]
        action = rng.choice(ready)
        rows[place[parts(action)[0]]].append(action)
        done.add(action)
        waiting.remove(action)
    return rows


def lowered(rng: random.Random, rows: Rows, stages: int) -> Rows:
    """The table with its transfers anywhere that they may stand, so that it still runs to its end."""
    place = place_of(rows)
    out: Rows = [[] for _ in rows]
    done: set[str] = set()
    arrived: list[str] = []
    at = [0] * len(rows)
    posted: list[str] = []
    while any(at[d] < len(row) for d, row in enumerate(rows)) or arrived or posted:
        moves: list[tuple[str, int]] = [("post", i) for i in range(len(posted))] + [
            ("take", i) for i in range(len(arrived))
        ]
        for device, row in enumerate(rows):
            if at[device] < len(row) and all(
                done.intersection(choice) for choice in sources(row[at[device]], place, stages, True)
            ):
                moves.append(("run", device))
        kind, i = rng.choice(moves)
        action = {"post": posted, "take": arrived}[kind].pop(i) if kind != "run" else rows[i][at[i]]
        stage, op, m = parts(action)
        out[place[stage]].append(action)
        done.add(action)
        if kind == "run":
            at[i] += 1
            up = op == "F"
            neighbour = stage + 1 if up else stage - 1
            if op in ("F", "B", "I") and place.get(neighbour, place[stage]) != place[stage]:
                posted.append(f"{stage}SEND_{'F' if up else 'B'}{m}")
        elif kind == "post":
            arrived.append(f"{stage + 1 if op == 'SEND_F' else stage - 1}RECV_{op[-1]}{m}")
    return out

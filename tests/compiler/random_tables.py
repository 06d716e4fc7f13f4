"""Random tables: published orders of all sizes, and any order of one update that its own data edges allow."""

from __future__ import annotations

import random
from dataclasses import dataclass

from hypothesis import strategies as st

__all__ = ["TableForm", "table_forms"]

Cell = tuple[int, str, int]
RUNS = {False: ["F", "B", "U"], True: ["F", "I", "W", "U"]}


@dataclass(frozen=True)
class TableForm:
    """What a schedule with a table needs: its groups, and the sizes that the table is made for."""

    groups: list[str]
    stages: int
    devices: int
    place: str
    every: int
    ops: tuple[str, ...]


@st.composite
def table_forms(draw: st.DrawFn) -> TableForm:
    return draw(draw(st.sampled_from([_published(), _any_order()])))


def _groups(draw: st.DrawFn, ops: list[str], table: str) -> list[str]:
    """One group that runs everything, or updates in a group of their own."""
    if "U" not in table and draw(st.integers(0, 3)) == 0:
        apart = draw(st.sampled_from(["per: stage", "per: device"]))
        runs = ", ".join(op for op in ops if op != "U")
        return [f"  compute: {{runs: [{runs}], per: device, table: {table}}}", f"  update: {{runs: [U], {apart}}}"]
    return [f"  compute: {{runs: [{', '.join(ops)}], per: device, table: {table}}}"]


@st.composite
def _published(draw: st.DrawFn) -> TableForm:
    name = draw(st.sampled_from(["gpipe", "1f1b", "interleaved-1f1b", "zb-h1", "looped-bfs", "zbv"]))
    devices = draw(st.integers(1, 3))
    chunks = 1 if name in ("gpipe", "1f1b") else 2 if name == "zbv" else draw(st.integers(1, 2))
    stages, place = devices * chunks, "s % D"
    if name == "zbv":
        place = f"[{', '.join(str(s if s < devices else stages - 1 - s) for s in range(stages))}]"
    ops = RUNS[name in ("zb-h1", "zbv")]
    every = draw(st.sampled_from([devices, 2 * devices] if "1" in name[1:] else [1, 2, 3, 4]))
    return TableForm(_groups(draw, ops, name), stages, devices, place, every, tuple(ops))


@st.composite
def _any_order(draw: st.DrawFn) -> TableForm:
    devices = draw(st.integers(1, 3))
    home = draw(st.permutations([*range(devices), *draw(st.lists(st.integers(0, devices - 1), max_size=2))]))
    every, split = draw(st.integers(1, 4)), draw(st.booleans())
    written, recomputed = draw(st.booleans()), draw(st.integers(0, 3)) == 0
    ops = [*(["R"] if recomputed else []), *RUNS[split]]
    chosen = random.Random(draw(st.integers(0, 2**32)))
    lines = _rows(home, every, [op for op in ops if written or op != "U"], chosen)
    table = "[" + ", ".join(f'"{" ".join(row)}"' for row in lines) + "]"
    place = f"[{', '.join(map(str, home))}]"
    return TableForm(_groups(draw, ops, table), len(home), devices, place, every, tuple(ops))


def _rows(home: list[int], every: int, ops: list[str], chosen: random.Random) -> list[list[str]]:
    """One random order in which nothing comes before what it needs, as the rows of the devices."""
    indices = {op: range(1 if op == "U" else every) for op in ops}
    left = [(s, op, i) for s in range(len(home)) for op in ops for i in indices[op]]
    done: set[Cell] = set()
    lines: list[list[str]] = [[] for _ in range(max(home) + 1)]
    while left:
        cell = chosen.choice([cell for cell in left if _needs(cell, ops, len(home), every) <= done])
        left.remove(cell)
        done.add(cell)
        lines[home[cell[0]]].append(f"{cell[0]}{cell[1]}{cell[2]}")
    return lines


def _needs(cell: Cell, ops: list[str], stages: int, every: int) -> set[Cell]:
    s, op, i = cell
    back, gradient = ("B", "B") if "B" in ops else ("I", "W")
    if op == "F":
        return {(s - 1, "F", i)} if s else set()
    if op == "U":
        return {(s, gradient, m) for m in range(every)}
    if op in ("R", "W"):
        return {(s, "F" if op == "R" else "I", i)}
    above = {(s + 1, back, i)} if s + 1 < stages else set()
    return above | {(s, "F", i)} | ({(s, "R", i)} if "R" in ops else set())

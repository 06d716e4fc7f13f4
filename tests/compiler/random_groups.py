"""Random stream groups as lines of YAML: by op, by stage, with orders and bodies, on devices, by ratios."""

from __future__ import annotations

import re

from hypothesis import strategies as st

__all__ = [
    "OPS",
    "SPLIT",
    "dynamic",
    "flow",
    "group",
    "on_devices",
    "ops_of",
    "pools",
    "recomputed",
    "stage_bodies",
    "stage_ranges",
    "wide_bodies",
    "with_ratio",
    "workers",
]

OPS = ["F", "B", "U"]
SPLIT = ["F", "I", "W", "U"]
POOLS = [
    [["F"], ["B", "U"]],
    [["F"], ["B"], ["U"]],
    [["F", "B"], ["U"]],
    [["F", "B", "U"]],
    [["F", "U"], ["B"]],
]
SPLIT_POOLS = [
    [["F"], ["I", "W", "U"]],
    [["F"], ["I"], ["W", "U"]],
    [["F", "I"], ["W", "U"]],
    [["F"], ["I"], ["W"], ["U"]],
    [["F", "I", "W", "U"]],
]
DEVICES = [
    ("1", "0"),
    ("1", "s * D // S"),
    ("2", "s % D"),
    ("2", "s * D // S"),
    ("3", "s % D"),
    ("4", "s * D // S"),
    ("S", "s"),
    ("2", "(last - s) % D"),
    ("2", None),
    ("3", None),
]


def flow(values: list[str]) -> str:
    return f"[{', '.join(values)}]"


def _quoted(lines: list[str]) -> str:
    return "[" + ", ".join(f'"{line}"' for line in lines) + "]"


@st.composite
def _shuffled(draw: st.DrawFn, ops: list[str]) -> str:
    """A key `order`, or nothing for the default."""
    return f", order: {flow(draw(st.permutations(ops)))}" if draw(st.booleans()) else ""


@st.composite
def _spread(draw: st.DrawFn) -> str:
    """How many streams a group has."""
    return draw(st.sampled_from(["", "", ", count: 2", ", count: 3", ", per: stage", ", per: device"]))


@st.composite
def group(draw: st.DrawFn, name: str, runs: list[str], spread: str | None = None) -> str:
    count = draw(_spread()) if spread is None else spread
    return f"  {name}: {{runs: {flow(runs)}{count}{draw(_shuffled(runs))}}}"


@st.composite
def pools(draw: st.DrawFn, split: bool) -> list[str]:
    """Groups by op: forward, backward, perhaps with their updates apart."""
    kinds = SPLIT_POOLS if split else POOLS
    return [draw(group(f"g{i}", runs)) for i, runs in enumerate(draw(st.sampled_from(kinds)))]


@st.composite
def workers(draw: st.DrawFn, split: bool) -> list[str]:
    runs = SPLIT if split else OPS
    return [draw(group("worker", runs, f", count: {draw(st.integers(1, 3))}"))]


@st.composite
def stage_ranges(draw: st.DrawFn, split: bool, stages: int) -> list[str]:
    """One group for the lower stages, another for the upper ones, perhaps with another kind of backward."""
    runs = SPLIT if split else OPS
    if stages == 1:
        return [draw(group("only", runs))]
    cut, other = draw(st.integers(1, stages - 1)), draw(st.sampled_from([runs, runs, SPLIT]))
    kinds = [(f"0..{cut - 1}", "low", runs), (f"{cut}..last", "high", other)]
    return [_with(draw(group(name, own)), f"stages: {span}") for span, name, own in kinds]


@st.composite
def stage_bodies(draw: st.DrawFn, split: bool) -> list[str]:
    """FDG by code and by paper order, DDG, and kin: a body for each stage."""
    delay = draw(st.sampled_from(["2*(last-s)", "last-s", "2*(last-s)+1", "3*(last-s)", "last-s+2", "0", "S-s"]))
    back = [f"{op}[s, m-({delay})]" for op in (["I", "W"] if split else ["B"])]
    update = f"U[s, m-({delay})]"
    forward = "F[s, m]"
    orders = [[*back, update, forward], [forward, *back, update], [update, forward, *back], [*back, forward, update]]
    body = draw(st.sampled_from(orders))
    if draw(st.integers(0, 9)) == 0:
        body = draw(st.permutations(body))
    apart = draw(st.booleans())
    if apart:
        body = [line for line in body if not line.startswith("U")]
    runs = SPLIT[:-1] if split else OPS[:-1]
    lines = [f"  stage: {{runs: {flow(runs if apart else [*runs, 'U'])}, per: stage, body: {_quoted(body)}}}"]
    if apart:
        lines.append(draw(group("update", ["U"])))
    return lines


@st.composite
def wide_bodies(draw: st.DrawFn, split: bool) -> list[str]:
    """Bodies over several stages: one after another, round over the streams, or one stream per device."""
    delay = draw(st.integers(0, 3))
    shift = f"-{delay}" if delay else ""
    back = [f"{op}[*, m{shift}]" for op in (["I", "W"] if split else ["B"])]
    body = ["F[*, m]", *back, f"U[*, m{shift}]"]
    if delay and draw(st.booleans()):
        body = [*body[1:], body[0]]
    spread = draw(st.sampled_from(["", ", count: 2", ", count: 3", ", per: device"]))
    return [f"  wide: {{runs: {flow(SPLIT if split else OPS)}{spread}, body: {_quoted(body)}}}"]


# -- groups changed ------------------------------------------------------------------------------------


def _with(group: str, text: str) -> str:
    """The group with one key more."""
    return f"{group[:-1]}, {text}}}"


@st.composite
def on_devices(draw: st.DrawFn, groups: list[str], stages: int) -> tuple[list[str], list[str]]:
    """(`devices` and `place`, groups): where stages are spread, a group that serves several has a device of its own."""
    devices, place = draw(st.sampled_from(DEVICES))
    if any("per:" not in g for g in groups) and draw(st.integers(0, 2)):
        devices, place = "1", "0"
    if place is None:
        homes = st.lists(st.integers(0, int(devices) - 1), min_size=stages, max_size=stages)
        place = flow([str(home) for home in draw(homes)])
    if devices != "1":
        forward, backward = (draw(st.sampled_from(["0", "0", "D - 1", "1 % D"])) for _ in range(2))
        places = [forward if "runs: [F]" in g else backward for g in groups]
        groups = [g if "per:" in g else _with(g, f"device: {home}") for g, home in zip(groups, places, strict=True)]
    return [f"devices: {devices}", f"place: {place}"], groups


@st.composite
def dynamic(draw: st.DrawFn, groups: list[str]) -> list[str]:
    """Some groups whose streams take whatever comes next."""
    return [
        _with(g, "assign: dynamic") if "count:" in g and "body:" not in g and draw(st.integers(0, 2)) == 0 else g
        for g in groups
    ]


@st.composite
def with_ratio(draw: st.DrawFn, groups: list[str]) -> list[str]:
    if any(key in g for g in groups for key in ("count:", "per:", "body:")) or draw(st.booleans()):
        return groups
    numbers = draw(st.lists(st.integers(1, 3), min_size=len(groups), max_size=len(groups)))
    return [f"  ratio: {draw(st.sampled_from(['auto', ':'.join(map(str, numbers))]))}", *groups]


@st.composite
def recomputed(draw: st.DrawFn, groups: list[str]) -> tuple[list[str], list[str]]:
    """(the key, groups): recomputed on its own, beside the backward, or within it."""
    if draw(st.integers(0, 4)):
        return [], groups
    stages = draw(st.sampled_from(["0..last", "0", "last"]))
    line = [f"recompute: {{mode: full, stages: {stages}}}"]
    place = draw(st.integers(0, 2))
    if place == 0:
        return line, groups
    if any("body:" in g for g in groups):
        bodies = [re.sub(r'"([BI])(\[[^"]*)"', r'"R\2", "\1\2"', g) for g in groups]
        return line, [re.sub(r"(runs: \[.*?)([BI])\b", r"\1R, \2", g, count=1) for g in bodies]
    if place == 1 and not any(key in g for g in groups for key in ("ratio", "stages:")):
        return line, [*groups, draw(group("again", ["R"]))]
    return line, [re.sub(r"(runs: \[.*?)([BI])\b", r"\1R, \2", g, count=1) for g in groups]


def ops_of(groups: list[str]) -> tuple[str, ...]:
    """What the groups run, but for recomputes."""
    ran = {op for g in groups for op in re.findall(r"\w", re.findall(r"runs: \[(.*?)\]", g)[0])}
    return tuple(op for op in ("F", "B", "I", "W", "U") if op in ran)

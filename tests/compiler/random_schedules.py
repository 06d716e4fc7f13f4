"""Random schedules as YAML text, for tests that must hold for every schedule."""

from __future__ import annotations

import re
from dataclasses import dataclass

from hypothesis import strategies as st

from tests.compiler.random_tables import table_forms

__all__ = ["Case", "cases", "rules"]

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
IN_FLIGHT = ["1", "2", "3", "4", "6", "S", "S - s", "2*(S - s) - 1", "D + 1", "S - s//2", "2*S", "s + 1"]
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


@dataclass(frozen=True)
class Case:
    """A schedule's text, for a number of stages; `ops` are those that it runs."""

    text: str
    stages: int
    ops: tuple[str, ...]
    every: int


def _flow(values: list[str]) -> str:
    return f"[{', '.join(values)}]"


def _quoted(lines: list[str]) -> str:
    return "[" + ", ".join(f'"{line}"' for line in lines) + "]"


@st.composite
def _shuffled(draw: st.DrawFn, ops: list[str]) -> str:
    """A key `order`, or nothing for the default."""
    return f", order: {_flow(draw(st.permutations(ops)))}" if draw(st.booleans()) else ""


@st.composite
def _spread(draw: st.DrawFn) -> str:
    """How many streams a group has."""
    return draw(st.sampled_from(["", "", ", count: 2", ", count: 3", ", per: stage", ", per: device"]))


@st.composite
def _group(draw: st.DrawFn, name: str, runs: list[str], spread: str | None = None) -> str:
    count = draw(_spread()) if spread is None else spread
    return f"  {name}: {{runs: {_flow(runs)}{count}{draw(_shuffled(runs))}}}"


@st.composite
def _pools(draw: st.DrawFn, split: bool) -> list[str]:
    """Groups by op: forward, backward, perhaps with their updates apart."""
    kinds = SPLIT_POOLS if split else POOLS
    return [draw(_group(f"g{i}", runs)) for i, runs in enumerate(draw(st.sampled_from(kinds)))]


@st.composite
def _workers(draw: st.DrawFn, split: bool) -> list[str]:
    runs = SPLIT if split else OPS
    return [draw(_group("worker", runs, f", count: {draw(st.integers(1, 3))}"))]


@st.composite
def _stage_ranges(draw: st.DrawFn, split: bool, stages: int) -> list[str]:
    """One group for the lower stages, another for the upper ones."""
    runs = SPLIT if split else OPS
    if stages == 1:
        return [draw(_group("only", runs))]
    cut = draw(st.integers(1, stages - 1))
    names = [(f"0..{cut - 1}", "low"), (f"{cut}..last", "high")]
    return [draw(_group(name, runs)).replace("}", f", stages: {span}}}") for span, name in names]


@st.composite
def _stage_bodies(draw: st.DrawFn, split: bool) -> list[str]:
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
    lines = [f"  stage: {{runs: {_flow(runs if apart else [*runs, 'U'])}, per: stage, body: {_quoted(body)}}}"]
    if apart:
        lines.append(draw(_group("update", ["U"])))
    return lines


@st.composite
def _wide_bodies(draw: st.DrawFn, split: bool) -> list[str]:
    """Bodies over several stages: one after another, round over the streams, or one stream per device."""
    delay = draw(st.integers(0, 3))
    shift = f"-{delay}" if delay else ""
    back = [f"{op}[*, m{shift}]" for op in (["I", "W"] if split else ["B"])]
    body = ["F[*, m]", *back, f"U[*, m{shift}]"]
    if delay and draw(st.booleans()):
        body = [*body[1:], body[0]]
    spread = draw(st.sampled_from(["", ", count: 2", ", count: 3", ", per: device"]))
    return [f"  wide: {{runs: {_flow(SPLIT if split else OPS)}{spread}, body: {_quoted(body)}}}"]


@st.composite
def _index(draw: st.DrawFn, source: str, target: str) -> str:
    """A source index: mostly earlier than the target's, sometimes far back, rarely the same or later."""
    back = draw(st.one_of(st.integers(1, 4), st.integers(1, 9), st.integers(0, 1), st.integers(10, 70)))
    ahead = draw(st.sampled_from([0, 0, 0, 0, 0, 0, 0, 1, 2, 5, 30]))
    if source == "U":
        return f"g-{back}" if back else "g"
    if target == "U":
        return draw(st.sampled_from(["hi", "lo", f"lo-{back}", f"hi-{back}"]))
    if ahead:
        return draw(st.sampled_from([f"m+{ahead}", "hi", f"hi-{ahead}", f"lo+{ahead}"]))
    return draw(st.sampled_from([f"m-{back}"] * 4 + [f"lo-{back}", "lo+hi-m-6"]))


@st.composite
def _condition(draw: st.DrawFn, target: str) -> str:
    name = "g" if target == "U" else "m"
    parts = [
        f"{name} % 2 == 0",
        f"{name} % 3 != 1",
        f"{name} % 4 < 2",
        f"{name} >= {draw(st.integers(0, 20))}",
        f"{name} < {draw(st.integers(0, 20))}",
        "s < last",
        "s % 2 == 0",
        f"g % {draw(st.integers(1, 3))} == 0",
        f"{name} == {draw(st.integers(0, 9))}",
        f"{name}//2 % 2 == 0",
    ] + ([] if target == "U" else ["m == lo", "m == hi", "m < hi"])
    first = draw(st.sampled_from(parts))
    second = draw(st.sampled_from(parts))
    return draw(st.sampled_from([first, first, f"{first} and {second}", f"{first} or {second}", f"not {first}"]))


@st.composite
def rules(draw: st.DrawFn, ops: tuple[str, ...]) -> str:
    target = draw(st.sampled_from(ops))
    source = draw(st.sampled_from(ops))
    stage = draw(st.sampled_from(["s", "s", "0", "last"]))
    where = draw(st.sampled_from(["s", "s", "*", "0", "last", "s-1", "s+1", "last-s"]))
    text = f"{target}[{stage}, {'g' if target == 'U' else 'm'}] after {source}[{where}, {draw(_index(source, target))}]"
    return f"{text} when {draw(_condition(target))}" if draw(st.integers(0, 2)) == 0 else text


def _known_rules(split: bool) -> list[str]:
    back = "W" if split else "B"
    return [
        "F[0, m] after U[*, g-1]",
        "F[s, m] after U[s, g-1]",
        f"U[s, g] after {back}[0, hi]",
        "F[s, m] after U[s, g-4]",
        f"{'I' if split else 'B'}[last, m] after F[last, hi]",
    ]


@st.composite
def _costs(draw: st.DrawFn, ops: tuple[str, ...], stages: int) -> str:
    time = st.sampled_from(["1", "2", "3", "1", "2", "5", "1/2", "3/2", "2/3", "0.5"])
    free = st.sampled_from(["0", "0", "1", "1/3", "2"])
    rare = draw(st.integers(0, 5)) == 0
    found = []
    for op in (op for op in ops if op != "R"):
        one = free if op == "U" or rare else time
        many = draw(st.lists(one, min_size=stages, max_size=stages)) if draw(st.integers(0, 3)) == 0 else [draw(one)]
        found.append(f"{op}: {_flow(many)}")
    for op in draw(st.lists(st.sampled_from(["R", "SEND", "SYNC"]), max_size=2, unique=True)):
        found.append(f"{op}: {draw(free if op != 'R' else time)}")
    return "{" + ", ".join(found) + "}"


# -- what the actions mean, as far as it is seen in the diagram -----------------------------------------


def _with(group: str, text: str) -> str:
    """The group with one key more."""
    return f"{group[:-1]}, {text}}}"


@st.composite
def _devices(draw: st.DrawFn, groups: list[str], stages: int) -> tuple[list[str], list[str]]:
    """(`devices` and `place`, groups): where stages are spread, a group that serves several has a device of its own."""
    devices, place = draw(st.sampled_from(DEVICES))
    if any("per:" not in g for g in groups) and draw(st.integers(0, 2)):
        devices, place = "1", "0"
    if place is None:
        homes = st.lists(st.integers(0, int(devices) - 1), min_size=stages, max_size=stages)
        place = _flow([str(home) for home in draw(homes)])
    if devices != "1":
        forward, backward = (draw(st.sampled_from(["0", "0", "D - 1", "1 % D"])) for _ in range(2))
        homes = [forward if "runs: [F]" in g else backward for g in groups]
        groups = [g if "per:" in g else _with(g, f"device: {home}") for g, home in zip(groups, homes, strict=True)]
    return [f"devices: {devices}", f"place: {place}"], groups


@st.composite
def _dynamic(draw: st.DrawFn, groups: list[str]) -> list[str]:
    """Some groups whose streams take whatever comes next."""
    return [
        _with(g, "assign: dynamic") if "count:" in g and "body:" not in g and draw(st.integers(0, 2)) == 0 else g
        for g in groups
    ]


@st.composite
def _ratio(draw: st.DrawFn, groups: list[str]) -> list[str]:
    if any(key in g for g in groups for key in ("count:", "per:", "body:")) or draw(st.booleans()):
        return groups
    numbers = draw(st.lists(st.integers(1, 3), min_size=len(groups), max_size=len(groups)))
    return [f"  ratio: {draw(st.sampled_from(['auto', ':'.join(map(str, numbers))]))}", *groups]


@st.composite
def _recompute(draw: st.DrawFn, groups: list[str]) -> tuple[list[str], list[str]]:
    """(the key, groups): recomputed on its own, beside the backward, or within it."""
    if draw(st.integers(0, 4)):
        return [], groups
    stages = draw(st.sampled_from(["0..last", "0", "last"]))
    line = [f"recompute: {{mode: full, stages: {stages}}}"]
    place = draw(st.integers(0, 2))
    if place == 0 or any("body:" in g for g in groups):
        return line, groups
    if place == 1 and not any(key in g for g in groups for key in ("ratio", "stages:")):
        return line, [*groups, draw(_group("again", ["R"]))]
    return line, [re.sub(r"(runs: \[.*?)([BI])\b", r"\1R, \2", g, count=1) for g in groups]


@st.composite
def _weights(draw: st.DrawFn, write: str) -> list[str]:
    backward = draw(st.sampled_from(["latest", "same"]))
    lags = ["latest", "latest", "lag(1)", "lag(2)", "lag(4)"] if write == "ordered" else ["latest"]
    forward = draw(st.sampled_from(lags))
    return (
        []
        if (forward, backward) == ("latest", "latest")
        else [f"weights: {{forward: {forward}, backward: {backward}}}"]
    )


@st.composite
def _aux(draw: st.DrawFn, stages: int) -> list[str]:
    if stages == 1 or draw(st.integers(0, 6)):
        return []
    kind = draw(st.sampled_from(["local", "synthetic"]))
    return [f"aux: {{gradient: {kind}, stages: {draw(st.sampled_from(['0..last-1', '0', 'last-1']))}}}"]


@st.composite
def _replicas(draw: st.DrawFn, write: str, scope: str) -> list[str]:
    if draw(st.integers(0, 3)):
        return []
    every = draw(st.integers(1, 3))
    kinds = [
        f"{{average: {every}}}",
        f"{{average: {{every: {every}, blocking: false}}}}",
        f"{{outer: {{every: {every}}}}}",
    ]
    kinds += ["{push: random}", "{push: {granularity: model}}"]
    if write == "ordered" and scope == "all":
        kinds += ["{allreduce: grad}"] * 3
    return [f"replicas: {{count: {draw(st.sampled_from([2, 4, 1]))}, sync: {draw(st.sampled_from(kinds))}}}"]


@st.composite
def _in_flight(draw: st.DrawFn, rare: bool) -> list[str]:
    return [f"in_flight: {draw(st.sampled_from(IN_FLIGHT))}"] if draw(st.integers(0, 9)) >= (5 if rare else 1) else []


@st.composite
def _known_and_random_rules(draw: st.DrawFn, ops: tuple[str, ...], most: int = 3) -> list[str]:
    known = st.sampled_from(_known_rules("W" in ops))
    made = draw(st.lists(st.one_of(rules(ops), rules(ops), known), max_size=most))
    return ["rules:", *(f"  - {rule}" for rule in made)] if made else []


# -- whole schedules ------------------------------------------------------------------------------------


@st.composite
def _pooled(draw: st.DrawFn) -> Case:
    """Groups that work greedily or by a body, on any devices, with everything that the language has."""
    stages = draw(st.integers(1, 6))
    split = draw(st.integers(0, 3)) == 0
    ops = tuple(SPLIT if split else OPS)
    forms = [_pools(split), _pools(split), _workers(split), _stage_ranges(split, stages)]
    forms += [_stage_bodies(split), _wide_bodies(split)]
    groups = draw(st.sampled_from(range(len(forms))).flatmap(lambda i: forms[i]))
    places, groups = draw(_devices(groups, stages))
    recompute, groups = draw(_recompute(draw(_ratio(draw(_dynamic(groups))))))
    every = draw(st.sampled_from([1, 1, 1, 2, 3, 4]))
    write = draw(st.sampled_from(["ordered", "ordered", "racy", "atomic"]))
    meaning = [*draw(_weights(write)), *draw(_aux(stages)), *recompute, *draw(_replicas(write, "all"))]
    return Case(
        _text(
            [*places, "streams:", *groups],
            draw(_in_flight(any("body:" in g for g in groups))),
            draw(_known_and_random_rules(ops)),
            [f"update: {{every: {every}, write: {write}}}", *meaning],
            draw(_maybe_costs(ops, stages)),
        ),
        stages,
        ops,
        every,
    )


@st.composite
def _blocks(draw: st.DrawFn) -> Case:
    """Workers with a block of stages each."""
    stages, ops = draw(st.integers(1, 6)), tuple(OPS)
    workers = draw(st.integers(1, min(stages, 4)))
    scope, write = draw(st.sampled_from(["partition", "alternate"])), draw(st.sampled_from(["racy", "atomic"]))
    groups = [draw(_group("worker", list(ops), f", count: {workers}"))]
    recompute = [] if draw(st.integers(0, 4)) else ["recompute: full"]
    return Case(
        _text(
            ["streams:", *groups],
            draw(_in_flight(rare=False)),
            draw(_known_and_random_rules(ops, most=1)),
            [f"update: {{every: 1, write: {write}, scope: {scope}}}", *recompute, *draw(_replicas(write, scope))],
            draw(_maybe_costs(ops, stages)),
        ),
        stages,
        ops,
        1,
    )


@st.composite
def _tabled(draw: st.DrawFn) -> Case:
    """An order for each device and update."""
    form = draw(table_forms())
    write = draw(st.sampled_from(["ordered", "racy"]))
    recompute = ["recompute: full"] if "R" in form.ops else []
    flush = ["rules:", "  - F[0, m] after U[*, g-1]"] if draw(st.booleans()) else []
    return Case(
        _text(
            [f"devices: {form.devices}", f"place: {form.place}", "streams:", *form.groups],
            flush or draw(_known_and_random_rules(form.ops, most=1)),
            [f"update: {{every: {form.every}, write: {write}}}", *draw(_weights(write)), *recompute],
            draw(_replicas(write, "all")),
            draw(_maybe_costs(form.ops, form.stages)),
        ),
        form.stages,
        form.ops,
        form.every,
    )


@st.composite
def _maybe_costs(draw: st.DrawFn, ops: tuple[str, ...], stages: int) -> list[str]:
    return [f"costs: {draw(_costs(ops, stages))}"] if draw(st.booleans()) else []


def _text(*parts: list[str]) -> str:
    return "\n".join(["asyncpipe: 1", "name: random", *(line for part in parts for line in part)]) + "\n"


def cases() -> st.SearchStrategy[Case]:
    """A schedule that mostly compiles, in every form that the language has."""
    return st.sampled_from(range(6)).flatmap(lambda i: [_blocks(), _tabled()][i] if i < 2 else _pooled())

"""Random schedules as YAML text, for tests that must hold for every schedule."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

from hypothesis import strategies as st

__all__ = ["Case", "cases", "mutants"]

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
def _rules(draw: st.DrawFn, ops: tuple[str, ...]) -> str:
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
    for op in ops:
        one = free if op == "U" or rare else time
        many = draw(st.lists(one, min_size=stages, max_size=stages)) if draw(st.integers(0, 3)) == 0 else [draw(one)]
        found.append(f"{op}: {_flow(many)}")
    return "{" + ", ".join(found) + "}"


@st.composite
def cases(draw: st.DrawFn, bodies: bool = True) -> Case:
    """A schedule that mostly compiles, in every form that the language has."""
    stages = draw(st.integers(1, 6))
    split = draw(st.integers(0, 3)) == 0
    ops = tuple(SPLIT if split else OPS)
    forms = [_pools(split), _pools(split), _workers(split), _stage_ranges(split, stages)]
    forms += [_stage_bodies(split), _wide_bodies(split)] if bodies else []
    groups = draw(st.sampled_from(range(len(forms))).flatmap(lambda i: forms[i]))
    devices, place = draw(st.sampled_from(DEVICES))
    if any("per: device" not in g and "per: stage" not in g for g in groups) and draw(st.integers(0, 3)):
        devices, place = "1", "0"
    if devices != "1":
        groups = [g if "per:" in g else g.replace("}", ", device: 0}") for g in groups]
    every = draw(st.sampled_from([1, 1, 1, 2, 3, 4]))
    lines = ["asyncpipe: 1", "name: random", f"devices: {devices}", f"place: {place}", "streams:", *groups]
    body = any("body:" in g for g in groups)
    if draw(st.integers(0, 9)) >= (5 if body else 1):
        lines.append(f"in_flight: {draw(st.sampled_from(IN_FLIGHT))}")
    made = draw(st.lists(st.one_of(_rules(ops), _rules(ops), st.sampled_from(_known_rules(split))), max_size=3))
    if made:
        lines += ["rules:", *(f"  - {rule}" for rule in made)]
    lines.append(f"update: {{every: {every}, write: {draw(st.sampled_from(['ordered', 'racy']))}}}")
    if draw(st.booleans()):
        lines.append(f"costs: {draw(_costs(ops, stages))}")
    return Case("\n".join(lines) + "\n", stages, ops, every)


@st.composite
def mutants(draw: st.DrawFn) -> Case:
    """A schedule with one thing changed: a rule gone or new, an index moved, lines of a body swapped, a count."""
    case = draw(cases())
    lines = case.text.splitlines()
    ways = [_add_rule, _shift_number, _swap_lines, _change_count, _delete_line]
    changed = draw(draw(st.sampled_from(ways))(lines, case))
    return replace(case, text="\n".join(changed) + "\n")


def _matching(lines: list[str], pattern: str) -> list[int]:
    return [i for i, line in enumerate(lines) if re.search(pattern, line)]


@st.composite
def _delete_line(draw: st.DrawFn, lines: list[str], case: Case) -> list[str]:
    found = _matching(lines, "^  - |^in_flight")
    gone = draw(st.sampled_from(found)) if found else -1
    left = [line for i, line in enumerate(lines) if i != gone]
    return left if _matching(left, "^  - ") else [line for line in left if line != "rules:"]


@st.composite
def _add_rule(draw: st.DrawFn, lines: list[str], case: Case) -> list[str]:
    rule = f"  - {draw(_rules(case.ops))}"
    at = lines.index("rules:") if "rules:" in lines else None
    return [*lines, "rules:", rule] if at is None else [*lines[: at + 1], rule, *lines[at + 1 :]]


@st.composite
def _shift_number(draw: st.DrawFn, lines: list[str], case: Case) -> list[str]:
    found = _matching(lines, r"^  - .*\d|^in_flight.*\d|body:.*\d")
    if not found:
        return lines
    line = draw(st.sampled_from(found))
    number = draw(st.sampled_from(list(re.finditer(r"\d+", lines[line]))))
    moved = max(0, int(number[0]) + draw(st.sampled_from([-2, -1, 1, 2, 10])))
    return [*lines[:line], lines[line][: number.start()] + str(moved) + lines[line][number.end() :], *lines[line + 1 :]]


@st.composite
def _swap_lines(draw: st.DrawFn, lines: list[str], case: Case) -> list[str]:
    found = _matching(lines, "body:")
    if not found:
        return lines
    head, body = lines[found[0]].split("body: ")
    shuffled = draw(st.permutations(re.findall(r'"[^"]*"', body)))
    return [*lines[: found[0]], f"{head}body: [{', '.join(shuffled)}]}}", *lines[found[0] + 1 :]]


@st.composite
def _change_count(draw: st.DrawFn, lines: list[str], case: Case) -> list[str]:
    found = _matching(lines, "count: |every: ")
    if not found:
        return lines
    line = draw(st.sampled_from(found))
    changed = re.sub(r"(count|every): \d+", rf"\1: {draw(st.integers(1, 5))}", lines[line])
    return [*lines[:line], changed, *lines[line + 1 :]]

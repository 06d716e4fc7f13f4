"""Random schedules as YAML text, for tests that must hold for every schedule."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from hypothesis import strategies as st

from tests.compiler.random_groups import (
    OPS,
    SPLIT,
    dynamic,
    group,
    on_devices,
    ops_of,
    pools,
    recomputed,
    stage_bodies,
    stage_ranges,
    wide_bodies,
    with_ratio,
    workers,
)
from tests.compiler.random_rules import costs, known_rules, rules
from tests.compiler.random_tables import table_forms

__all__ = ["Case", "cases"]

IN_FLIGHT = ["1", "2", "3", "4", "6", "S", "S - s", "2*(S - s) - 1", "D + 1", "S - s//2", "2*S", "s + 1"]


@dataclass(frozen=True)
class Case:
    """A schedule's text, for a number of stages; `ops` are those that it runs."""

    text: str
    stages: int
    ops: tuple[str, ...]
    every: int


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
def _known_and_random_rules(
    draw: st.DrawFn, ops: tuple[str, ...], more: Sequence[str] = (), most: int = 3
) -> list[str]:
    known = st.sampled_from(known_rules("W" in ops))
    any_of_them = rules((*ops, *more))
    made = draw(st.lists(st.one_of(any_of_them, any_of_them, known), max_size=most))
    return ["rules:", *(f"  - {rule}" for rule in made)] if made else []


# -- whole schedules ------------------------------------------------------------------------------------


@st.composite
def _pooled(draw: st.DrawFn) -> Case:
    """Groups that work greedily or by a body, on any devices, with everything that the language has."""
    stages = draw(st.integers(1, 6))
    split = draw(st.integers(0, 3)) == 0
    forms = [pools(split), pools(split), workers(split), stage_ranges(split, stages)]
    forms += [stage_bodies(split), wide_bodies(split)]
    groups = draw(st.sampled_from(range(len(forms))).flatmap(lambda i: forms[i]))
    places, groups = draw(on_devices(groups, stages))
    ops = ops_of(groups)
    recompute, groups = draw(recomputed(draw(with_ratio(draw(dynamic(groups))))))
    every = draw(st.sampled_from([1, 1, 1, 2, 3, 4]))
    write = draw(st.sampled_from(["ordered", "ordered", "racy", "atomic"]))
    replicas = draw(_replicas(write, "all"))
    meaning = [*draw(_weights(write)), *draw(_aux(stages)), *recompute, *replicas]
    more = ["R"] if any("R, " in g or "[R]" in g for g in groups) else []
    more += ["SYNC"] if replicas and "count: 1," not in replicas[0] else []
    return Case(
        _text(
            [*places, "streams:", *groups],
            draw(_in_flight(any("body:" in g for g in groups))),
            draw(_known_and_random_rules(ops, more)),
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
    groups = [draw(group("worker", list(ops), f", count: {workers}"))]
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
def _copies(draw: st.DrawFn) -> Case:
    """Streams of the backward with a copy of the parameters each, on devices of their own."""
    stages, count = draw(st.integers(1, 5)), draw(st.integers(1, 3))
    runs = draw(st.sampled_from([SPLIT[1:], OPS[1:]]))
    write = draw(st.sampled_from(["ordered", "racy", "overwrite"]))
    groups = [draw(group("forward", ["F"], ", device: 0"))]
    groups += [draw(group("backward", runs, f", count: {count}, device: i + 1"))]
    every = draw(st.sampled_from([1, 1, 2]))
    owner = "stream" if count > 1 else "shared"
    ops = ("F", *runs)
    return Case(
        _text(
            [f"devices: {count + 1}", "place: 0", "streams:", *groups],
            draw(_in_flight(rare=False)),
            draw(_known_and_random_rules(ops)),
            [f"update: {{every: {every}, write: {write}, owner: {owner}}}", "weights: {backward: private}"],
            draw(_maybe_costs(ops, stages)),
        ),
        stages,
        ops,
        every,
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
    return [f"costs: {draw(costs(ops, stages))}"] if draw(st.booleans()) else []


def _text(*parts: list[str]) -> str:
    return "\n".join(["asyncpipe: 1", "name: random", *(line for part in parts for line in part)]) + "\n"


def cases() -> st.SearchStrategy[Case]:
    """A schedule that mostly compiles, in every form that the language has."""
    rare = [_blocks(), _tabled(), _copies()]
    return st.sampled_from(range(9)).flatmap(lambda i: rare[i] if i < len(rare) else _pooled())

"""Random rules, and costs, as texts."""

from __future__ import annotations

from hypothesis import strategies as st

from tests.compiler.random_groups import flow

__all__ = ["costs", "known_rules", "rules"]


@st.composite
def _index(draw: st.DrawFn, source: str, target: str) -> str:
    """A source index: mostly earlier than the target's, sometimes far back, rarely the same or later."""
    back = draw(st.one_of(st.integers(1, 4), st.integers(1, 9), st.integers(0, 1), st.integers(10, 70)))
    ahead = draw(st.sampled_from([0, 0, 0, 0, 0, 0, 0, 1, 2, 5, 30]))
    if source in ("U", "SYNC"):
        return f"g-{back}" if back else "g"
    if target in ("U", "SYNC"):
        return draw(st.sampled_from(["hi", "lo", f"lo-{back}", f"hi-{back}"]))
    if ahead:
        return draw(st.sampled_from([f"m+{ahead}", "hi", f"hi-{ahead}", f"lo+{ahead}"]))
    return draw(st.sampled_from([f"m-{back}"] * 4 + [f"lo-{back}", "lo+hi-m-6"]))


@st.composite
def _condition(draw: st.DrawFn, target: str) -> str:
    name = "g" if target in ("U", "SYNC") else "m"
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
    ] + ([] if name == "g" else ["m == lo", "m == hi", "m < hi"])
    first = draw(st.sampled_from(parts))
    second = draw(st.sampled_from(parts))
    return draw(st.sampled_from([first, first, f"{first} and {second}", f"{first} or {second}", f"not {first}"]))


@st.composite
def rules(draw: st.DrawFn, ops: tuple[str, ...]) -> str:
    target = draw(st.sampled_from(ops))
    source = draw(st.sampled_from(ops))
    stage = draw(st.sampled_from(["s", "s", "0", "last"]))
    where = draw(st.sampled_from(["s", "s", "*", "0", "last", "s-1", "s+1", "last-s"]))
    bound = "g" if target in ("U", "SYNC") else "m"
    text = f"{target}[{stage}, {bound}] after {source}[{where}, {draw(_index(source, target))}]"
    return f"{text} when {draw(_condition(target))}" if draw(st.integers(0, 2)) == 0 else text


def known_rules(split: bool) -> list[str]:
    back = "W" if split else "B"
    return [
        "F[0, m] after U[*, g-1]",
        "F[s, m] after U[s, g-1]",
        f"U[s, g] after {back}[0, hi]",
        "F[s, m] after U[s, g-4]",
        f"{'I' if split else 'B'}[last, m] after F[last, hi]",
    ]


@st.composite
def costs(draw: st.DrawFn, ops: tuple[str, ...], stages: int) -> str:
    time = st.sampled_from(["1", "2", "3", "1", "2", "5", "1/2", "3/2", "2/3", "0.5"])
    free = st.sampled_from(["0", "0", "1", "1/3", "2"])
    rare = draw(st.integers(0, 5)) == 0
    found = []
    for op in (op for op in ops if op != "R"):
        one = free if op == "U" or rare else time
        many = draw(st.lists(one, min_size=stages, max_size=stages)) if draw(st.integers(0, 3)) == 0 else [draw(one)]
        found.append(f"{op}: {flow(many)}")
    for op in draw(st.lists(st.sampled_from(["R", "SEND", "SYNC"]), max_size=2, unique=True)):
        found.append(f"{op}: {draw(free if op != 'R' else time)}")
    return "{" + ", ".join(found) + "}"

"""A deadlock among fifty rules: the cycle that is told is a shortest one, and its steps name the lines of rules."""

from __future__ import annotations

import random
import re
from collections import deque

import pytest

from asyncpipe.errors import Diagnostic, ScheduleError
from tests.compiler.cycles import action
from tests.compiler.instances import compiled
from tests.compiler.oracle import Action, Oracle
from tests.compiler.oracle_clock import Clock

HEAD = """\
asyncpipe: 1
streams:
  forward: {runs: [F]}
  backward: {runs: [B, U]}
in_flight: 6
update: {every: 2, write: racy}
rules:
"""
STAGES, RULES, MICROBATCHES = 6, 50, 40


def harmless(chosen: random.Random) -> str:
    """A rule that waits for something earlier, so that no cycle needs it."""
    source, target = chosen.choice("FB"), chosen.choice("FBU")
    stage, other, back = chosen.randrange(STAGES), chosen.randrange(STAGES), chosen.randint(7, 30)
    when = chosen.choice(["", "", f" when m % {chosen.randint(2, 3)} == 0"])
    if target == "U":
        return f"U[{stage}, g] after {source}[{other}, lo-{back}]"
    return f"{target}[{stage}, m] after {source}[{other}, m-{back}]{when}"


def ring(chosen: random.Random, length: int) -> list[str]:
    """Forwards and backwards of which each waits for the next one, and the last for the first."""
    pairs = [(op, stage) for op in "FB" for stage in range(STAGES)]
    nodes = chosen.sample(pairs, length)
    back = [chosen.choice([0, 0, 0, 1, 2]) for _ in nodes]
    back[-1] = -sum(back[:-1])  # what goes back on the way comes ahead at its end
    return [
        f"{op}[{stage}, m] after {other}[{s}, m{-shift:+d}]" if shift else f"{op}[{stage}, m] after {other}[{s}, m]"
        for (op, stage), (other, s), shift in zip(nodes, nodes[1:] + nodes[:1], back, strict=True)
    ]


def cyclic(seed: int) -> list[str]:
    """Fifty rules in any order, with cycles of several lengths among them."""
    chosen = random.Random(seed)
    rules = [rule for length in chosen.sample(range(4, 10), 2) for rule in ring(chosen, length)]
    rules += [harmless(chosen) for _ in range(RULES - len(rules))]
    chosen.shuffle(rules)
    return rules


def shortest_by_brute_force(oracle: Oracle) -> int:
    """The length of the shortest cycle among what never runs: a search from every action."""
    blocked = oracle.actions - set(Clock(oracle).run())
    return min(length for start in blocked if (length := distance_to_itself(oracle, start, blocked)) is not None)


def distance_to_itself(oracle: Oracle, start: Action, blocked: set[Action]) -> int | None:
    seen, queue = {start}, deque([(start, 1)])
    while queue:
        found, length = queue.popleft()
        for source in oracle.before[found] & blocked:
            if source == start:
                return length
            if source not in seen:
                seen.add(source)
                queue.append((source, length + 1))
    return None


def cycle_of(text: str) -> Diagnostic:
    with pytest.raises(ScheduleError) as caught:
        compiled(text.removeprefix("asyncpipe: 1\n"), STAGES)
    (found,) = caught.value.diagnostics
    assert found.code == "AP201"
    return found


SEEDS = [*range(4), *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(4, 12))]
"""The slow ones are more of the same."""


@pytest.mark.parametrize("seed", SEEDS)
def test_cycle_among_fifty_rules_is_a_shortest_one(seed: int) -> None:
    text = HEAD + "".join(f"  - {rule}\n" for rule in cyclic(seed))
    found = cycle_of(text)
    oracle = Oracle(text, STAGES, MICROBATCHES)
    assert len(found.notes) == shortest_by_brute_force(oracle)
    lines = text.splitlines()
    steps = [re.fullmatch(r"(\w+) waits for (\w+): (.*)", note) for note, _ in found.notes]
    for step, (_, where) in zip(steps, found.notes, strict=True):
        assert step is not None
        target, source = action(step[1]), action(step[2])
        assert source in oracle.before[target]
        if where is not None:
            line = lines[where.line - 1]
            rule = line.removeprefix("  - ")
            assert line == "in_flight: 6" or source in oracle.rule_sources(rule, target), line


def test_rules_of_a_ring_are_told_with_their_lines() -> None:
    """Three of fifty rules close a ring; nothing else does."""
    ring_of_three = {9: "F[0, m] after F[5, m + 1]", 30: "B[0, m] after F[0, m + 1]", 47: "F[5, m] after B[0, m - 2]"}
    chosen = random.Random(1)
    rules = [ring_of_three.get(i) or harmless(chosen) for i in range(RULES)]
    found = cycle_of(HEAD + "".join(f"  - {rule}\n" for rule in rules))
    first = HEAD.count("\n") + 1
    told = {(note.partition(": ")[2], where.line if where else None) for note, where in found.notes}
    assert told == {(rule, first + i) for i, rule in ring_of_three.items()}
    assert found.message == "deadlock: 0B0 -> 0F1 -> 5F2 -> 0B0"

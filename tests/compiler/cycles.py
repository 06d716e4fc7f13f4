"""Whether a diagnostic tells the truth: the arrows of a cycle are edges of the schedule, found anew by the oracle."""

from __future__ import annotations

import re

from asyncpipe.errors import Diagnostic
from tests.compiler.oracle import Action, Oracle, by_update
from tests.compiler.oracle_clock import Clock
from tests.compiler.random_schedules import Case

__all__ = ["assert_cycle_is_real", "assert_diagnostics_are_sound", "assert_waits_without_end"]


def action(text: str) -> Action:
    stage, op, index = re.fullmatch(r"(\d+)([A-Z_]+)(\d+)", text).groups()  # type: ignore[union-attr]
    return int(stage), op, int(index)


def _oracle(case: Case, actions: list[Action], margin: int = 80) -> Oracle:
    every = int(re.search(r"^update: .every: (\d+)", case.text, re.MULTILINE)[1])  # type: ignore[index]
    n = max(index * (every if by_update(op) else 1) for _, op, index in actions) + margin
    return Oracle(case.text, case.stages, n + -n % every)


def _waits(oracle: Oracle, target: Action, source: Action) -> bool:
    """By an edge, or since the body of its stream runs the source first."""
    queue = oracle.streams[oracle.stream_of[target]]["queue"] or []
    behind = source in queue and target in queue and queue.index(source) < queue.index(target)
    return source in oracle.before[target] or behind


def _step(note: str) -> tuple[Action, Action]:
    """(what waits, what it waits for) of one line of a cycle's story."""
    order = re.fullmatch(r"device \d+ runs (\w+) before (\w+)", note)
    if order:
        return action(order[2]), action(order[1])
    arrow = re.fullmatch(r"(\w+) (?:waits for (\w+): .+|needs the result of (\w+))", note)
    assert arrow, note
    return action(arrow[1]), action(arrow[2] or arrow[3])


def assert_cycle_is_real(case: Case, found: Diagnostic) -> None:
    steps = [_step(note) for note, _ in found.notes]
    assert steps, found
    oracle = _oracle(case, [target for target, _ in steps])
    for (target, source), (following, _) in zip(steps, [*steps[1:], steps[0]], strict=True):
        assert source == following, found
        assert _waits(oracle, target, source), f"{target} after {source} is no edge"
    named = [action(text) for text in re.findall(r"\b\d+[A-Z_]+\d+\b", found.message)]
    assert [target for target, _ in steps] == named[: len(steps)]


def assert_waits_without_end(case: Case, found: Diagnostic) -> None:
    """The blocked action runs later in a longer run, or never."""
    match = re.match(r"deadlock: (\w+) waits for (\w+), and so on", found.message)
    assert match, found
    blocked, source = action(match[1]), action(match[2])
    shorter, longer = (_oracle(case, [blocked, source], margin) for margin in (80, 160))
    assert _waits(shorter, blocked, source)
    first, second = (Clock(oracle).run().get(blocked) for oracle in (shorter, longer))
    assert first is None or second is None or first < second


def assert_diagnostics_are_sound(case: Case, diagnostics: tuple[Diagnostic, ...]) -> None:
    assert diagnostics
    for found in diagnostics:
        assert re.fullmatch(r"AP\d{3}", found.code)
        assert found.where is not None
        assert 1 <= found.where.line <= len(case.text.splitlines())
        assert found.hint or found.code in ("AP105", "AP110", "AP114", "AP118", "AP121")
        if found.code == "AP201" and found.notes:
            assert_cycle_is_real(case, found)
        if found.code == "AP202":
            assert_waits_without_end(case, found)

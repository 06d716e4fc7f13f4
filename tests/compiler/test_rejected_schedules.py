"""What does not compile is named truly, and in bounded work: no hang, and no exception but ScheduleError."""

from __future__ import annotations

import re

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from asyncpipe.compiler import Compiled
from asyncpipe.errors import Diagnostic
from tests.compiler import properties
from tests.compiler.cycles import assert_cycle_is_real, assert_diagnostics_are_sound
from tests.compiler.instances import findings, try_to_compile
from tests.compiler.mutants import mutants
from tests.compiler.random_schedules import Case, cases


@settings(max_examples=20)
@given(cases())
def test_rejected_schedules_have_sound_diagnostics(case: Case) -> None:
    found = try_to_compile(case)
    assume(not isinstance(found, Compiled))
    assert not isinstance(found, Compiled)
    assert_diagnostics_are_sound(case, found)


@settings(max_examples=20)
@given(mutants(), st.integers(1, 40))
def test_mutated_schedules_run_or_are_named_with_their_cycle(case: Case, n: int) -> None:
    found = try_to_compile(case)
    if isinstance(found, Compiled):
        properties.assert_every_action_once(found, n)
        properties.assert_edges_are_covered(found, n)
    else:
        assert_diagnostics_are_sound(case, found)


POOLS = "streams:\n  forward: {runs: [F]}\n  backward: {runs: [B, U]}\n"
CYCLES = {
    "itself": (POOLS + "in_flight: 2\nrules:\n  - B[0, m] after B[0, m]\n", {"0B0"}),
    "data": (POOLS + "in_flight: 2\nrules:\n  - F[0, m] after F[last, m]\n", {"0F0", "1F0"}),
    "update": (POOLS + "in_flight: 4\nrules:\n  - F[0, m] after U[0, g]\n", {"0F0", "0U0", "0B0"}),
    "in_flight": (POOLS + "in_flight: 1\nrules:\n  - B[0, m] after F[0, m+1]\n", {"0F1", "0B0"}),
    "far ahead": (POOLS + "rules:\n  - F[0, m] after B[0, m+31]\n  - B[0, m] after F[0, m-31]\n", {"0F0", "0B31"}),
    "body": (
        'streams:\n  stage: {runs: [F, B, U], per: stage, body: ["B[s, m]", "U[s, m]", "F[s, m]"]}\n',
        {"0F0", "0B0"},
    ),
}


@pytest.mark.parametrize("name", CYCLES)
def test_cycle_is_printed(name: str) -> None:
    text, actions = CYCLES[name]
    (found,) = findings(text, 2)
    assert found.code == "AP201"
    assert set(re.findall(r"\b\d[FBU]\d+\b", found.message)) == actions
    assert_cycle_is_real(Case(f"asyncpipe: 1\n{text}update: {{every: 1}}\n", 2, (), 1), found)


def codes(text: str, stages: int = 2) -> set[str]:
    return {found.code for found in findings(text, stages)}


LAGGARDS = {
    "no bound on the forward": (POOLS, "AP501"),
    "a bound by timing only": (POOLS + "costs: {F: 5, B: 1}\n", "AP501"),
    "no bound on odd microbatches": (
        "streams:\n  forward: {runs: [F], count: 2}\n  backward: {runs: [B, U], count: 2}\n"
        "rules:\n  - F[s, m] after B[s, m-2] when m % 2 == 0\n",
        "AP501",
    ),
    "an update that never runs": (
        "streams:\n  main: {runs: [F, B, U], order: [B, F, U]}\nin_flight: 3\ncosts: {U: 1}\n",
        "AP503",
    ),
    "updates slower than microbatches": (
        "streams:\n  main: {runs: [F, B], order: [B, F]}\n  update: {runs: [U]}\ncosts: {U: [3, 4]}\n",
        "AP503",
    ),
    "a weight gradient that never runs": (
        "streams:\n  main: {runs: [F, I, W, U], order: [I, F, W, U]}\n",
        "AP503",
    ),
    "forwards that take no time": (POOLS + "costs: {F: 0}\n", "AP505"),
    "nothing takes time": ("streams:\n  main: {runs: [F, I, W, U]}\ncosts: {F: 0, I: 0, W: 0}\n", "AP505"),
    "waiting for ever later ones": (POOLS + "rules:\n  - F[0, m] after F[0, m+1]\n", "AP202"),
    "a rule that reaches too far": (POOLS + "in_flight: 3\nrules:\n  - F[0, m] after B[0, m-5000]\n", "AP118"),
    "too many in flight": (POOLS + "in_flight: 1000000\n", "AP105"),
}


@pytest.mark.parametrize("name", LAGGARDS)
def test_schedule_without_steady_state_is_named(name: str) -> None:
    text, code = LAGGARDS[name]
    assert codes(text) == {code}


def test_short_update_that_would_wait_for_itself_is_named() -> None:
    """Whole updates take the first microbatch last; a short one of a single microbatch cannot."""
    text = (
        "streams:\n  forward: {runs: [F]}\n  backward: {runs: [B]}\n  update: {runs: [U]}\nin_flight: 8\n"
        "rules:\n  - F[0, m] after F[1, hi] when m == lo\nupdate: {every: 4}\n"
    )
    (found,) = findings(text, 2)
    assert (found.code, found.where and found.where.line) == ("AP201", 8)
    assert "short" in found.message


def test_finding_has_the_place_of_its_rule() -> None:
    found: tuple[Diagnostic, ...] = findings(POOLS + "in_flight: 2\nrules:\n  - B[0, m] after B[0, m]\n", 2)
    assert found[0].where is not None
    assert found[0].where.line == 7

"""The verifier itself: an error that is put into a program is found."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from asyncpipe.analysis.happens_before import HappensBefore
from asyncpipe.errors import InternalError
from asyncpipe.ir import Action, Instruction, Kind, Op, Program, replay
from tests.compiler.instances import compiled
from tests.compiler.properties import uncovered
from tests.compiler.random_schedules import Case, cases
from tests.compiler.test_random_programs import instance

F, B, U = Op.F, Op.B, Op.U


def flat(program: Program) -> Program:
    """The same run without a body, so that one instruction can be changed."""
    return replace(program, warmup=tuple(program.instructions()), body=(), cooldown=(), iterations=0)


@settings(max_examples=20)
@given(cases(), st.integers(2, 30), st.data())
def test_dropping_any_wait_leaves_an_edge_uncovered(case: Case, n: int, data: st.DataObject) -> None:
    found = instance(case)
    program = flat(found.program(n))
    waits = [i for i, instruction in enumerate(program.warmup) if instruction.kind is Kind.WAIT]
    assume(waits)
    gone = data.draw(st.sampled_from(waits))
    broken = replace(program, warmup=program.warmup[:gone] + program.warmup[gone + 1 :])
    assert uncovered(found, program) == []
    assert uncovered(found, broken) != []


@settings(max_examples=20)
@given(cases(), st.integers(2, 30), st.data())
def test_swapping_dependent_launches_leaves_an_edge_uncovered(case: Case, n: int, data: st.DataObject) -> None:
    found = instance(case)
    program = flat(found.program(n))
    pairs = dependent_launches(program, found.diagram.predecessors)
    assume(pairs)
    i, j = data.draw(st.sampled_from(pairs))
    swapped = list(program.warmup)
    swapped[i], swapped[j] = swapped[j], swapped[i]
    assert uncovered(found, replace(program, warmup=tuple(swapped))) != []


def dependent_launches(program: Program, predecessors: object) -> list[tuple[int, int]]:
    """Places of two launches of one stream of which the second waits for the first."""
    places = {x.action: (i, x.stream) for i, x in enumerate(program.warmup) if x.kind is Kind.LAUNCH}
    assert callable(predecessors)
    return [
        (places[source][0], i)
        for action, (i, stream) in places.items()
        for source, _ in predecessors(action, program.microbatches)
        if places[source][1] == stream
    ]


def test_order_is_known_through_a_chain_of_waits_only() -> None:
    """1F0 knows 0F0 by its stream, 0B0 knows both by its waits; the next forward knows no backward yet."""
    found = compiled("streams:\n  f: {runs: [F]}\n  b: {runs: [B, U]}\nin_flight: 2\n", 2)
    order = HappensBefore(found.program(4))
    assert order.before(Action(0, F, 0), Action(1, F, 0))
    assert order.before(Action(0, F, 0), Action(0, B, 0))
    assert order.before(Action(1, B, 0), Action(0, F, 2))
    assert not order.ordered(Action(1, B, 0), Action(0, F, 1))
    assert not order.before(Action(0, F, 2), Action(0, U, 0))
    assert order.ordered(Action(0, F, 2), Action(0, B, 0))


def test_wait_before_its_record_counts_nothing() -> None:
    found = compiled("streams:\n  f: {runs: [F]}\n  b: {runs: [B, U]}\nin_flight: 2\n", 1)
    program = flat(found.program(1))
    assert uncovered(found, program) == []
    record = next(i for i in program.warmup if i.kind is Kind.RECORD)
    late = replace(program, warmup=(*(i for i in program.warmup if i is not record), record))
    assert uncovered(found, late) == ["0B0 after 0F0 (data flow)"]


def test_replay_of_a_program_that_waits_in_a_circle_says_so() -> None:
    found = compiled("streams:\n  f: {runs: [F]}\n  b: {runs: [B, U]}\nin_flight: 2\n", 1)
    program = flat(found.program(1))
    circle = (Instruction(Kind.WAIT, 0, Action(0, B, 0)), *program.warmup)
    with pytest.raises(InternalError, match="deadlocks: f at 0F0, b at 0B0"):
        list(replay(replace(program, warmup=circle)))

"""Races and bounds of staleness, found by bisection, against every pair of actions."""

from __future__ import annotations

from collections.abc import Iterable

from hypothesis import given, settings

from asyncpipe.analysis.happens_before import HappensBefore
from asyncpipe.analysis.races import guaranteed_staleness, intended_races
from asyncpipe.ir import Action, Op, Program
from tests.analysis.test_random_simulations import small
from tests.compiler.random_schedules import Case, cases


def of(order: HappensBefore, op: Op, stage: int) -> list[Action]:
    return [action for action in order.actions if action.op is op and action.stage == stage]


def racing(order: HappensBefore, readers: Iterable[Action], updates: list[Action]) -> bool:
    return any(a != u and not order.ordered(a, u) for a in readers for u in updates)


def most_between(order: HappensBefore, program: Program, stage: int) -> int | None:
    updates, counts = of(order, Op.U, stage), [0]
    for m in range(program.start + 2 * program.step, program.start + 3 * program.step):
        own = Action(stage, Op.U, m // program.every)
        if own in updates:
            forward = Action(stage, Op.F, m)
            shown = {u: s for u in updates if (s := u._replace(op=Op.SEND_U)) in order.actions}
            unseen = [u for u in updates if u != own and not order.before(shown.get(u, u), forward)]
            free = [u for u in unseen if not order.before(own, u)]
            if any(u.index > own.index for u in free):
                return None
            lag = program.forward_weights.startswith("lag")
            counts.append(int(program.forward_weights[4:-1]) if lag else len(free))
    return max(counts)


@settings(max_examples=40)
@given(cases())
def test_races_are_those_of_all_pairs(case: Case) -> None:
    compiled = small(case)
    program = compiled.sample_program()
    order = HappensBefore(program)
    found = {(race.op, stage) for race in intended_races(program, compiled.schedule.weights) for stage in race.stages}
    readers = [Op.F, Op.U, Op.SYNC, Op.SEND_U]
    readers += [Op.B, Op.I] if compiled.schedule.weights.backward == "latest" else []
    stages = range(program.stages)
    assert found == {(op, s) for op in readers for s in stages if racing(order, of(order, op, s), of(order, Op.U, s))}


@settings(max_examples=40)
@given(cases())
def test_staleness_bound_is_that_of_all_pairs(case: Case) -> None:
    compiled = small(case)
    program = compiled.sample_program()
    order = HappensBefore(program)
    bound = guaranteed_staleness(program, order)
    assert bound == tuple(most_between(order, program, s) for s in range(program.stages))
    assert all(b is None or most <= b for most, b in zip(compiled.staleness.max, bound, strict=True))

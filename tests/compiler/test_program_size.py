"""The cost of a compiled run does not grow with its length."""

from __future__ import annotations

from itertools import islice

import pytest

from asyncpipe.compiler import Compiled, compile_schedule
from asyncpipe.ir import Program
from asyncpipe.schedule import library, load

BILLION = 10**9


def size(program: Program) -> tuple[int, int, int]:
    return len(program.warmup), len(program.body), len(program.cooldown)


def instance(name: str) -> Compiled:
    """A schedule of the library, for the number of stages that it is made for."""
    schedule = load(name)
    assert schedule.expect is not None
    return compile_schedule(schedule, schedule.expect.stages)


@pytest.mark.parametrize("name", library())
def test_long_programs_differ_only_in_their_numbers(name: str) -> None:
    found = instance(name)
    step = found.unrolled.step
    short, long = found.program(10**6 // step * step), found.program(BILLION // step * step)
    assert size(short) == size(long)
    assert (short.warmup, short.body) == (long.warmup, long.body)
    assert long.iterations is not None
    assert long.iterations * step > BILLION - 1000
    assert sum(size(long)) < 2000


@pytest.mark.parametrize("name", library())
def test_cooldown_of_a_long_run_has_its_last_microbatches(name: str) -> None:
    found = instance(name)
    cooldown = {found.diagram.microbatch(instruction.action) for instruction in found.program(BILLION).cooldown}
    assert min(cooldown) > BILLION - 100 - 4 * found.unrolled.step
    assert max(cooldown) > BILLION - 10


def test_tables_of_long_runs_are_as_short() -> None:
    found = compile_schedule(load("async-lu"), 5)
    short, long = (found.table(n) for n in (10**6, BILLION))
    for one, other in zip(short.streams, long.streams, strict=True):
        assert (one.warmup, one.body, len(one.cooldown)) == (other.warmup, other.body, len(other.cooldown))
        for early, late in zip(one.cooldown, other.cooldown, strict=True):
            assert late.action == early.action.shifted(BILLION - 10**6)
            assert late.reads == (None if early.reads is None else early.reads + BILLION - 10**6)


def test_instructions_of_a_long_run_come_one_by_one() -> None:
    program = compile_schedule(load("async-lu"), 4).program(BILLION)
    first = list(islice(program.instructions(), 10_000))
    assert first == list(islice(compile_schedule(load("async-lu"), 4).program(None).instructions(), 10_000))

"""Staleness and period of random schedules: what the compiler states against what a replay of the program counts."""

from __future__ import annotations

from fractions import Fraction

from hypothesis import assume, given, settings
from hypothesis import strategies as st

from asyncpipe.ir import parse_table
from asyncpipe.runtime.staleness import steady_microbatches
from tests.compiler import properties
from tests.compiler.random_schedules import Case, cases
from tests.compiler.test_random_programs import instance


@settings(max_examples=30)
@given(cases())
def test_staleness_is_what_a_replay_counts(case: Case) -> None:
    properties.assert_staleness_is_as_measured(instance(case))


@settings(max_examples=30)
@given(cases())
def test_period_is_what_a_replay_takes(case: Case) -> None:
    properties.assert_period_is_as_measured(instance(case))


@settings(max_examples=30)
@given(cases())
def test_table_states_the_versions_that_a_replay_reads(case: Case) -> None:
    """In warmup and body; in the cooldown the streams have less to do, and updates may come earlier than planned."""
    found = instance(case)
    assume(found.schedule.update.scope == "all")  # else a version is no offset from the number of the update
    n, _ = properties.steady_range(found)
    read = properties.versions_read(found.program(n))
    table = parse_table(str(found.table(n)))
    update = table.start // table.every
    for stream in table.streams:
        for cell in stream.warmup:
            assert cell.reads == (read[cell.action] if cell.action.op in properties.READERS else None), cell
        for cell in stream.body:
            if cell.reads is not None:
                assert update + cell.reads == read[table.absolute(cell.action, 0)], cell


@settings(max_examples=30)
@given(cases(), st.integers(0, 20))
def test_run_of_any_length_counts_the_same_before_its_cooldown(case: Case, more: int) -> None:
    """What a training averages, and compares with the compiler's statement."""
    found = instance(case)
    assume(found.schedule.update.scope == "all")
    program = found.program(properties.long_enough(found, 2) + more)
    applied, between = properties.measured(program)
    for s in range(found.stages):
        steady = steady_microbatches(program, s)
        assume(steady)
        for counts, stated in ((applied, found.staleness.apply), (between, found.staleness.forward_backward)):
            assert Fraction(sum(counts[s, m] for m in steady), len(steady)) == stated[s]

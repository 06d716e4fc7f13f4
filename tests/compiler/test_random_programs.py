"""What a compiled program must do, for random schedules and random lengths."""

from __future__ import annotations

from unittest import mock

from hypothesis import assume, given, settings
from hypothesis import strategies as st

from asyncpipe.compiler import Compiled
from asyncpipe.passes import order
from asyncpipe.verify import asynchrony
from tests.compiler import properties
from tests.compiler.instances import try_to_compile
from tests.compiler.random_schedules import Case, cases

LENGTHS = st.integers(1, 59)


def instance(case: Case) -> Compiled:
    """The compiler's limits are an eighth here: what never repeats takes most of the time, only to be passed over."""
    ahead, actions = order.MAX_AHEAD // 8, order._MAX_ACTIONS // 8
    with (
        mock.patch.object(order, "MAX_AHEAD", ahead),
        mock.patch.object(asynchrony, "MAX_AHEAD", ahead),
        mock.patch.object(order, "_MAX_ACTIONS", actions),
    ):
        found = try_to_compile(case)
    assume(isinstance(found, Compiled))
    assert isinstance(found, Compiled)
    return found


@settings(max_examples=50)
@given(cases(), LENGTHS)
def test_program_runs_every_action_once_and_in_order(case: Case, n: int) -> None:
    found = instance(case)
    properties.assert_every_action_once(found, n)
    properties.assert_edges_hold_in_time(found, n)
    properties.assert_waits_follow_their_records(found.program(n))
    properties.assert_slots_have_one_owner(found, n)
    properties.assert_versions_are_kept(found, n)


@settings(max_examples=50)
@given(cases(), LENGTHS)
def test_waits_enforce_every_edge(case: Case, n: int) -> None:
    """In short runs, and in runs with some iterations of the body and every length of the last update."""
    found = instance(case)
    properties.assert_edges_are_covered(found, n)
    longer = properties.long_enough(found, 2) + n % (2 * found.diagram.every)
    properties.assert_edges_are_covered(found, longer)
    properties.assert_waits_follow_their_records(found.program(longer))
    properties.assert_every_action_once(found, longer)


@settings(max_examples=30)
@given(cases())
def test_no_wait_of_the_body_is_redundant(case: Case) -> None:
    found = instance(case)
    assume(len(found.program(None).body) < 150)
    properties.assert_body_is_minimal(found)


@settings(max_examples=25)
@given(cases())
def test_body_and_size_do_not_depend_on_the_length(case: Case) -> None:
    properties.assert_body_is_the_same_for_any_length(instance(case))


@settings(max_examples=30)
@given(cases(), LENGTHS)
def test_text_of_tables_and_programs_reads_back_equal(case: Case, n: int) -> None:
    properties.assert_text_reads_back(instance(case), n)


@settings(max_examples=30)
@given(cases(), LENGTHS)
def test_table_lists_what_the_program_launches(case: Case, n: int) -> None:
    found = instance(case)
    table, program = found.table(n), found.program(n)
    for stream in range(len(program.streams)):
        assert list(table.actions(stream)) == [launch.action for launch in program.launches(stream)]


@settings(max_examples=30)
@given(cases())
def test_forward_waits_for_an_earlier_backward_of_its_stage(case: Case) -> None:
    """Else nothing bounds how far it runs ahead; a compiled schedule must not be one where only the timing does."""
    found = instance(case)
    properties.assert_forwards_are_bounded(found)

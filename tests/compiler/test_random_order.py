"""The order and the times of random schedules: the compiler's plan against a plain list scheduler."""

from __future__ import annotations

from hypothesis import given, settings

from asyncpipe.schedule import Schedule
from tests.compiler.agreement import assert_agrees_with_oracle, assert_same_edges
from tests.compiler.instances import schedule
from tests.compiler.random_schedules import Case, cases
from tests.compiler.test_random_programs import instance


@settings(max_examples=40)
@given(cases())
def test_plan_has_the_times_of_the_list_scheduler(case: Case) -> None:
    found = instance(case)
    n = min(max(30, 2 * found.unrolled.step), 100)
    assert assert_agrees_with_oracle(found, case.text, n) > 0 or n < 60


@settings(max_examples=30)
@given(cases())
def test_diagram_has_the_edges_of_the_format(case: Case) -> None:
    assert_same_edges(instance(case), case.text, 40)


@settings(max_examples=50)
@given(cases())
def test_schedule_text_reads_back_equal(case: Case) -> None:
    found: Schedule = schedule(case.text)
    assert schedule(str(found)) == found

"""What holds for the pictures of every schedule, on the instance that it expects."""

from __future__ import annotations

from fractions import Fraction
from itertools import pairwise

import pytest

from asyncpipe.compiler import Compiled
from asyncpipe.pictures.counters import counters
from asyncpipe.pictures.html import Panel, html
from asyncpipe.pictures.timeline import planned, timeline_of
from asyncpipe.schedule import library
from tests.pictures.pages import Page, read_timelines
from tests.pictures.timelines import SCHEDULES, boxes_of, compiled, launched, times_of


@pytest.fixture(params=[*((name,) for name in library()), *SCHEDULES[3:]], ids=" ".join)
def made(request: pytest.FixtureRequest) -> Compiled:
    return compiled(request.param)


def test_every_action_is_in_the_plan_and_on_the_page_once(made: Compiled) -> None:
    program = made.program(2 * made.diagram.every + 3)
    timeline = planned(program)
    assert [[str(box.action) for box in row.boxes] for row in timeline.rows] == launched(program)
    assert [(row.name, row.device) for row in timeline.rows] == [(s.name, s.device) for s in program.streams]
    for row in timeline.rows:
        assert all(a.end <= b.start for a, b in pairwise(row.boxes))
    assert read_timelines(Page("".join(html("x", [Panel("plan", timeline)]))).data) == [("plan", timeline)]


def test_plan_is_the_timeline_of_its_own_times(made: Compiled) -> None:
    """So a simulation that keeps to the plan gives the plan's picture."""
    program = made.program(made.diagram.every + 1)
    timeline = planned(program)
    assert timeline_of(program, times_of(timeline)) == timeline


def test_steady_counters_are_what_the_compiler_states(made: Compiled) -> None:
    start, step, every = made.unrolled.start, made.unrolled.step, made.diagram.every
    timeline = planned(made.program(start + 6 * step))
    boxes = boxes_of(timeline)
    steady = range((start + 2 * step) // every, (start + 3 * step) // every)
    for stage in range(made.stages):
        found = [boxes[f"{stage}U{g}"].staleness for g in steady if f"{stage}U{g}" in boxes]
        assert max(value for value in found if value is not None) == made.staleness.max[stage]
        if every == 1:
            assert Fraction(sum(value or 0 for value in found), len(found)) == made.staleness.apply[stage]
    for counter in counters(timeline):
        if counter.name == "in flight":
            assert 1 <= counter.most <= made.slots[counter.stage]
            assert counter.steps[-1][1] == 0

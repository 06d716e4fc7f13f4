"""Every file of the library: it says what it is, compiles, is as it expects, and all its levels read back."""

from __future__ import annotations

import re

import pytest

from asyncpipe.compiler import compile_schedule
from asyncpipe.errors import Report, ScheduleError
from asyncpipe.ir import parse_program, parse_table
from asyncpipe.schedule import library, load, load_text
from tests.library.instances import ALL, compiled, sizes

NAMES = list(library())
WITHOUT_PAPER = {"sgd", "sgd-ready", "sgd-overlap"}


@pytest.mark.parametrize("name", NAMES)
def test_a_file_says_what_it_is(name: str) -> None:
    schedule = load(name)
    assert schedule.name == name
    assert re.fullmatch(r"[A-Z0-9][^\n]{20,170}\.", schedule.description)
    assert (schedule.paper is None) == (name in WITHOUT_PAPER)
    assert schedule.paper is None or re.fullmatch(r"arXiv \d{4}\.\d{4,5}(v\d)?", schedule.paper.id)


@pytest.mark.parametrize("name", NAMES)
def test_a_file_is_as_it_expects(name: str) -> None:
    schedule = load(name)
    expect = schedule.expect
    assert expect is not None
    found = compile_schedule(schedule, expect.stages, expect.costs)
    assert (found.staleness.apply, found.period) == (expect.staleness, expect.period)
    assert expect.versions in (None, found.versions)


@pytest.mark.parametrize("name", NAMES)
def test_a_file_compiles_for_the_numbers_of_stages_that_its_method_allows(name: str) -> None:
    for stages in ALL:
        if stages in sizes(name):
            assert len(compiled(name, stages).staleness.apply) == stages
        else:
            with pytest.raises(ScheduleError) as refused:
                compiled(name, stages)
            assert all(d.code in ("AP121", "AP123", "AP606", "AP610") for d in refused.value.diagnostics)


@pytest.mark.parametrize("name", NAMES)
def test_the_validated_file_reads_back(name: str) -> None:
    schedule, report = load(name), Report()
    assert load_text(str(schedule), f"{name}.yaml", report) == schedule
    assert not report.diagnostics


@pytest.mark.parametrize("name", NAMES)
def test_table_and_program_read_back(name: str) -> None:
    found = compiled(name, 4)
    every = found.diagram.every
    for n in (None, 1, 3 * every, 40 * every + 1):
        table, program = found.table(n), found.program(n)
        assert parse_table(str(table)) == table
        assert parse_program(str(program)) == program

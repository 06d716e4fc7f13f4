"""Aligned tables: a column is a point in time."""

from __future__ import annotations

from itertools import zip_longest

import pytest

from asyncpipe.errors import ScheduleError
from asyncpipe.exchange.aligned import align
from asyncpipe.exchange.window import window
from asyncpipe.tables.csv_text import csv_text
from asyncpipe.tables.index import data_sources
from tests.exchange.schedules import TABLES, compiled_text, greedy, of_table


def aligned(text: str) -> str:
    compiled = compiled_text(text)
    return csv_text(align(compiled, window(compiled, compiled.diagram.every)))


def test_a_column_is_the_time_of_a_start() -> None:
    """1F1B on two devices, F=1, B=2: the start of each action is its column."""
    assert aligned(greedy("U, B, F", "S - s", 2, 3)) == ("0F0,0F1,,,0B0,,0F2,0B1,,,0B2\n,1F0,1B0,,1F1,1B1,,1F2,1B2,,\n")


def test_a_column_is_as_wide_as_all_starts_allow() -> None:
    text = greedy("U, B, F", "S - s", 2, 3)
    for costs in ("{F: 3, B: 6}", "{F: 1/3, B: 2/3}"):
        assert aligned(f"{text}costs: {costs}\n") == aligned(text)


@pytest.mark.parametrize(("name", "devices", "stages", "microbatches"), TABLES)
def test_what_needs_a_result_stands_in_a_later_column(name: str, devices: int, stages: int, microbatches: int) -> None:
    """So that torch posts the transfer when it meets the sender's cell, before the receiver needs it."""
    compiled = compiled_text(of_table(name, devices, stages, microbatches))
    rows = align(compiled, window(compiled, microbatches))
    assert len({len(row) for row in rows}) == 1
    columns = {action: at for at, cells in enumerate(zip_longest(*rows)) for action in cells if action is not None}
    sources = data_sources(dict.fromkeys(columns, (0, 0)))
    compared = 0
    for action, at in columns.items():
        for source in sources(action):
            if source in columns:
                assert columns[source] < at
                compared += 1
    assert compared >= 2 * stages * microbatches - microbatches


@pytest.mark.parametrize(
    ("costs", "message"),
    [
        ("{F: 0}", "start at the same time on device 0"),
        ("{F: 1000, B: 1999.99}", "aligned in time the table has 4 rows with "),
    ],
)
def test_what_cannot_be_aligned_is_refused(costs: str, message: str) -> None:
    compiled = compiled_text(f"{greedy('U, B, F', 'S - s', 4, 4)}costs: {costs}\n")
    with pytest.raises(ScheduleError) as caught:
        align(compiled, window(compiled, 4))
    (diagnostic,) = caught.value.diagnostics
    assert diagnostic.code == "AP142"
    assert message in diagnostic.message
    assert diagnostic.hint

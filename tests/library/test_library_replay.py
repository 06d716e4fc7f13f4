"""The compiler against the plain replay, for every file: orders, times, versions, staleness and period."""

from __future__ import annotations

import pytest

from asyncpipe.schedule import library
from tests.library.agreement import assert_agrees, plain_staleness
from tests.library.instances import compiled, sizes

PUBLISHED = ("fdg", "fdg-paper-order", "ddg", "adl", "pipedream", "pipedream-2bw", "async-lu", "async-bu")
"""Those whose staleness is published for every number of stages."""
CASES: list[tuple[str, int]] = [(name, stages) for name in library() for stages in (2, 4) if stages in sizes(name)]
CASES += [(name, stages) for name in PUBLISHED for stages in (3, 8)]
UNEVEN = {"F": 1, "B": "9/4", "I": "5/4", "W": 1, "R": "3/4", "U": "1/4", "SEND": "1/2", "SYNC": "3/4"}


@pytest.mark.parametrize(("name", "stages"), CASES)
def test_the_compiler_agrees_with_the_plain_replay(name: str, stages: int) -> None:
    found = compiled(name, stages)
    plain = assert_agrees(found, name, 96)
    assert plain_staleness(plain) == (found.staleness.apply, found.staleness.max, found.period)


@pytest.mark.parametrize("name", library())
def test_they_agree_where_updates_and_transfers_take_time(name: str) -> None:
    costs = ", ".join(f"{op}: {time}" for op, time in UNEVEN.items())
    found = compiled(name, 4, f"costs={{{costs}}}")
    plain = assert_agrees(found, name, 144, {"costs": UNEVEN})
    assert plain_staleness(plain) == (found.staleness.apply, found.staleness.max, found.period)

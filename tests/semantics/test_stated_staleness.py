"""`serial` measures exactly the staleness that the compiler states, also of fewer stages or an odd number."""

from __future__ import annotations

import pytest

from asyncpipe.schedule import library, load
from tests.training.steady import assert_measured_is_stated


def is_asynchronous(name: str) -> bool:
    schedule = load(name)
    assert schedule.expect is not None
    return any(schedule.expect.staleness or ()) or schedule.update.scope != "all"


CASES = [(name, stages) for name in library() if is_asynchronous(name) for stages in (2, 5)]


@pytest.mark.parametrize(("name", "stages"), [case for case in CASES if case != ("lppsgd", 2)])
def test_measured_is_stated_in_every_stage(name: str, stages: int) -> None:
    """The four workers of lppsgd need as many stages."""
    assert_measured_is_stated(name, stages)

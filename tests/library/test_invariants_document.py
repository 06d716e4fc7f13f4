"""docs/invariants.md: it has every schedule of the library, and the tests that it names exist."""

from __future__ import annotations

import re

from asyncpipe.schedule import library
from tests.library.update_papers import PAPERS

TESTS = PAPERS.parents[1] / "tests"
TEXT = PAPERS.with_name("invariants.md").read_text("utf-8")
ROWS = [line.strip("| ").split(" | ") for line in TEXT.splitlines() if line.startswith("| ")]


def test_every_schedule_of_the_library_has_its_row() -> None:
    """But `both` async-lu and async-bu, and the greedy orders beside their tables."""
    own = {name for row in ROWS for name in re.findall(r"`([a-z0-9-]+)`", row[0])}
    named = {name for name in library() if not name.endswith("-greedy")}
    assert named <= own


def test_the_tests_that_it_names_exist() -> None:
    named = set(re.findall(r"`((?:[a-z]+/)?test_\w+)`", TEXT))
    assert len(named) > 20
    assert [name for name in named if not list(TESTS.glob(f"**/{name}.py"))] == []

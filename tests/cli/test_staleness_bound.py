"""What `check` guarantees: staleness that no timing exceeds, from events and streams alone."""

from __future__ import annotations

from dataclasses import replace

import pytest

from asyncpipe.analysis.races import guaranteed_staleness
from asyncpipe.compiler import compile_schedule
from asyncpipe.schedule import load


@pytest.mark.parametrize(
    ("schedule", "overrides", "bound"),
    [
        ("sgd", (), (0, 0, 0)),
        ("sgd-ready", (), (0, 0, 0)),
        ("hogwild", (), (None, None, None)),
        ("async-lu", ("rules=['F[s, m] after U[s, g-2]']",), (1, 1, 1)),
        ("async-lu", ("rules=['F[0, m] after U[*, g-4]']",), (3, 2, 2)),
    ],
)
def test_rules_bound_the_staleness(schedule: str, overrides: tuple[str, ...], bound: tuple[int | None, ...]) -> None:
    compiled = compile_schedule(replace(load(schedule, overrides), expect=None), 3)
    assert guaranteed_staleness(compiled.sample_program()) == bound


def test_the_plan_never_exceeds_the_bound() -> None:
    for name in ("sgd", "sgd-ready", "async-lu", "async-bu"):
        compiled = compile_schedule(load(name), 6)
        bounds = guaranteed_staleness(compiled.sample_program())
        assert all(b is not None and m <= b for m, b in zip(compiled.staleness.max, bounds, strict=True))

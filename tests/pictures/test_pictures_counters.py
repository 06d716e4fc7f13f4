"""Staleness and microbatches in flight over time."""

from __future__ import annotations

from asyncpipe.pictures.counters import counters
from asyncpipe.pictures.timeline import planned
from tests.pictures.timelines import compiled, hand_made


def test_counters_of_async_lu() -> None:
    found = counters(planned(compiled(("async-lu",), 2).program(4)))
    assert [(counter.name, counter.stage, counter.most, list(counter.steps)) for counter in found] == [
        ("staleness", 0, 2, [(6, 0), (8, 1), (10, 2), (12, 2)]),
        ("in flight", 0, 3, [(0, 1), (2, 2), (4, 3), (8, 2), (10, 1), (12, 0)]),
        ("staleness", 1, 1, [(4, 0), (6, 1), (8, 1), (10, 1)]),
        ("in flight", 1, 2, [(1, 1), (3, 2), (4, 1), (5, 2), (6, 1), (7, 2), (8, 1), (10, 0)]),
    ]


def test_microbatch_is_in_flight_until_its_last_gradient() -> None:
    drawn = hand_made(main=[("0F0", 0, 1), ("0F1", 2, 3), ("0I0", 3, 4), ("0W0", 6, 7)], side=[("0B1", 3, 5)])
    (found,) = counters(drawn)
    assert (found.name, found.stage, found.most) == ("in flight", 0, 2)
    assert found.steps == ((0, 1), (2, 2), (5, 1), (7, 0))


def test_slot_that_changes_hands_counts_once() -> None:
    drawn = hand_made(main=[("0F0", 0, 1), ("0B0", 1, 2), ("0F1", 2, 3), ("0B1", 3, 4)])
    assert counters(drawn)[0].steps == ((0, 1), (4, 0))


def test_nothing_is_counted_where_nothing_ran() -> None:
    assert counters(hand_made(main=[])) == ()
    assert counters(hand_made(main=[("0SEND_F0", 0, 1)])) == ()

"""Timelines cut, rescaled and interleaved, and measured times in the terminal."""

from __future__ import annotations

from dataclasses import replace

from asyncpipe.ir import AUTHORED, Op
from asyncpipe.pictures.side_by_side import clipped, interleaved, rescaled, with_rows_of
from asyncpipe.pictures.terminal import draw
from asyncpipe.pictures.timeline import Timeline, planned
from tests.pictures.timelines import compiled
from tests.pictures.timelines import hand_made as timeline


def spans(found: Timeline) -> dict[str, list[tuple[str, float, float]]]:
    return {row.name: [(str(box.action), box.start, box.end) for box in row.boxes] for row in found.rows}


def test_clipping_cuts_boxes_at_both_edges_and_begins_at_zero() -> None:
    whole = timeline(main=[("0F0", 0, 2), ("0B0", 2, 5), ("0F1", 5, 6)], side=[("0U0", 5, 6)])
    found = clipped(whole, 1, 5)
    assert spans(found) == {"main": [("0F0", 0, 1), ("0B0", 1, 4)], "side": []}
    assert found.end == 4


def test_rescaling_multiplies_every_time() -> None:
    whole = planned(compiled(("async-lu",), 2).program(8))
    found = rescaled(whole, 1000.0, "ms")
    assert (found.end, found.unit) == (whole.end * 1000, "ms")
    assert [row.busy for row in found.rows] == [row.busy * 1000 for row in whole.rows]
    assert [row.idle for row in found.rows] == [row.idle * 1000 for row in whole.rows]


def test_rows_without_the_ops_are_left_out() -> None:
    whole = planned(compiled(("1f1b",), 2).program(8))
    assert [row.name for row in with_rows_of(whole, AUTHORED).rows] == ["compute[0]", "compute[1]"]
    assert [row.name for row in with_rows_of(whole, (Op.SEND_F,)).rows] == ["copy[0->1]"]


def test_interleaving_puts_equal_rows_below_each_other() -> None:
    one, other = timeline(f=[("0F0", 0, 1)], b=[("0B0", 1, 3)]), timeline(f=[("0F0", 0, 2)], b=[("0B0", 2, 5)])
    found = interleaved({"measured": one, "simulated": other})
    assert [row.name for row in found.rows] == ["f measured", "f simulated", "b measured", "b simulated"]
    assert found.end == 5


def test_measured_times_fill_the_width_whatever_their_unit() -> None:
    """0.05 ms on 40 columns: no whole number of columns for each unit would show that."""
    short = replace(timeline(main=[("0F0", 0, 0.02), ("0B0", 0.03, 0.05)]), unit="ms")
    assert draw(short, 51) == (
        "main     |0F0------------ ........0B0============ |\ntime, ms  0       0.01    0.02    0.03    0.04\n"
    )

"""The terminal's diagram, from timelines made by hand."""

from __future__ import annotations

import re
from itertools import pairwise

import pytest

from asyncpipe.pictures.terminal import draw, scale_for
from asyncpipe.pictures.timeline import Timeline, planned
from tests.pictures.timelines import compiled
from tests.pictures.timelines import hand_made as timeline


def test_boxes_are_as_long_as_their_times_and_filled_by_op() -> None:
    drawn = timeline(
        main=[("0F0", 0, 1), ("0B0", 1, 3), ("0U0", 3, 4)], side=[("0I1", 1, 2), ("0W1", 2, 3.5), ("0U1", 3.5, 3.5)]
    )
    assert draw(drawn) == (
        "main |0F0 0B0==== 0U0 |\nside |....0I1 0W1~~ ..|\n     |              ^0U1\ntime  0       2       4\n"
    )


def test_scale_makes_room_for_the_longest_label_in_the_shortest_box() -> None:
    assert scale_for(timeline(main=[("0F0", 0, 1)])) == 4
    assert scale_for(timeline(main=[("0F0", 0, 2)])) == 2
    assert scale_for(timeline(main=[("12F345", 0, 1), ("0B0", 1, 4)])) == 7
    assert scale_for(timeline(main=[("0F0", 0, 0.01)])) == 12
    assert scale_for(timeline(main=[("0F0", 0, 1000)])) == 1


def test_box_without_room_for_its_label_shows_its_microbatch_or_nothing() -> None:
    assert draw(timeline(main=[("0F7", 0, 0.25), ("0F8", 0.25, 0.5), ("0B7", 0.5, 2.5)])).splitlines()[0] == (
        "main |7- 8- 0B7==================== |"
    )
    assert draw(timeline(main=[("0F7", 0, 0.1), ("0B7", 0.1, 2.1)])).splitlines()[0] == (
        "main |-0B7==================== |"
    )


def test_updates_at_one_instant_share_a_mark() -> None:
    drawn = timeline(main=[("0F0", 0, 1), ("1U0", 1, 1), ("0U0", 1, 1), ("0F1", 1, 4), ("0U1", 4, 4)])
    assert draw(drawn).splitlines()[1] == "     |    ^1U0 0U0    ^0U1"


def test_mark_that_would_run_into_another_goes_into_the_next_line() -> None:
    drawn = timeline(main=[("0F0", 0, 1), ("1U0", 1, 1), ("0U0", 1, 1), ("0F1", 1, 2), ("0U1", 2, 2), ("0F2", 2, 5)])
    assert draw(drawn).splitlines()[1:3] == ["     |    ^1U0 0U0", "     |        ^0U1"]


def test_cut_picture_says_how_much_is_missing() -> None:
    drawn = timeline(stream=[("0F0", 0, 10), ("0U0", 10, 10), ("0F1", 10, 20), ("0U1", 20, 20), ("0F2", 20, 30)])
    assert draw(drawn, 24) == (
        "stream |0F0------ 0F1------ |\n"
        "       |          ^0U0\n"
        "time    0    5    10   15\n"
        "        (the first 20 of 30; --width 39 shows all)\n"
    )
    assert "shows all" not in draw(drawn, 39)


def test_axis_has_at_least_five_columns_between_its_numbers() -> None:
    for scale, box in ((1, 1000.0), (2, 2.0), (4, 1.0), (12, 0.1)):
        drawn = timeline(main=[("0F0", 0, box), ("0B0", box, 50 * box)])
        assert scale_for(drawn) == scale
        axis = draw(drawn, 200).splitlines()[1][6:]
        places = [(match.start(), int(match[0])) for match in re.finditer(r"\d+", axis)]
        assert all(place == number * scale for place, number in places)
        assert all(b[0] - a[0] >= 5 for a, b in pairwise(places))


@pytest.mark.parametrize("width", [30, 80, 200])
def test_colours_change_no_character(width: int) -> None:
    drawn = timeline(main=[("0F0", 0, 1), ("0B0", 1, 3), ("0U0", 3, 4)], side=[("0I1", 1, 2), ("0W1", 2, 3.5)])
    coloured = draw(drawn, width, colour=True)
    assert re.sub(r"\x1b\[[\d;]*m", "", coloured) == draw(drawn, width)
    assert all(line.endswith("\x1b[0m|") for line in coloured.splitlines() if "|" in line)
    codes = set(re.findall(r"\x1b\[([\d;]*)m", draw(drawn, colour=True)))
    assert codes == {"30;46", "30;43", "30;103", "30;42", "97;41", "0"}


def test_nothing_is_drawn_as_nothing() -> None:
    assert draw(Timeline((), 0.0)) == "time  0\n"
    assert draw(timeline(main=[])) == "main ||\ntime  0\n"


def test_input_and_weight_gradients_have_fills_of_their_own() -> None:
    drawn = timeline(main=[("0F0", 0, 1), ("0I0", 1, 3), ("0W0", 3, 5), ("0R1", 5, 7), ("0SYNC0", 7, 9)])
    assert draw(drawn).splitlines()[0] == "main |0F0 0I0++++ 0W0~~~~ 0R1%%%% 0SYNC0@ |"


def test_streams_that_only_communicate_at_no_cost_are_named_in_one_line() -> None:
    rows = {f"copy[{i}->{i + 1}]": [(f"{i}SEND_F0", 1.0, 1.0)] for i in range(4)}
    drawn = timeline(main=[("0F0", 0, 1), ("0B0", 1, 3), ("0U0", 3, 3)], update=[("1U0", 3, 3)], **rows)
    assert draw(drawn) == (
        "main   |0F0 0B0==== |\n       |            ^0U0\nupdate |............|\n       |            ^1U0\n"
        "time    0       2\n        (nothing takes time on copy[0->1], copy[1->2], copy[2->3], copy[3->4])\n"
    )
    assert draw(drawn, 70).splitlines()[-1] == "        (nothing takes time on copy[0->1], copy[1->2] and 2 more)"
    assert draw(drawn, 45).splitlines()[-1] == "        (nothing takes time on 4 streams)"


def test_transfers_that_take_time_are_drawn_and_do_not_stretch_the_picture() -> None:
    rows = {"copy[0->1]": [("0SEND_F0", 1.0, 1.5), ("0SEND_F1", 2.0, 2.0)]}
    assert draw(timeline(main=[("0F0", 0, 1), ("0F1", 1, 2)], **rows)).splitlines()[:3] == [
        "main       |0F0 0F1 |",
        "copy[0->1] |....0 ..|",
        "           |        ^0SEND_F1",
    ]


@pytest.mark.parametrize("name", ["async-lu", "sgd"])
def test_streams_are_busy_for_as_long_as_their_actions_take(name: str) -> None:
    found = planned(compiled((name,), 3).program(7))
    assert sum(row.busy for row in found.rows) == 3 * 7 * (1 + 2)

"""Boxes with what they read, wrote and waited for, from plans and from times that somebody else measured."""

from __future__ import annotations

from fractions import Fraction

import pytest

from asyncpipe.ir import parse_action
from asyncpipe.pictures.timeline import planned, timeline_of
from tests.pictures.timelines import boxes_of, compiled, program, times_of

TWO_STREAMS = program(
    "forward launch 0F0",
    "forward record 0F0",
    "backward wait 0F0",
    "backward launch 0B0",
    "backward launch 0U0",
    "forward launch 0F1",
    "forward record 0F1",
    "backward wait 0F1",
    "backward launch 0B1",
    "backward launch 0U1",
    streams=("forward device 0 runs F", "backward device 0 runs B U"),
)


def test_boxes_know_the_versions() -> None:
    boxes = boxes_of(planned(TWO_STREAMS))
    assert [boxes[name].reads for name in ("0F0", "0F1", "0B0", "0B1")] == [0, 0, 0, 1]
    assert [(boxes[name].writes, boxes[name].staleness) for name in ("0U0", "0U1")] == [(1, 0), (2, 1)]
    assert {boxes[name].reads for name in ("0U0", "0U1")} == {None}
    assert {boxes[name].writes for name in ("0F0", "0B0")} == {None}


def test_update_that_ends_when_a_forward_starts_is_read_by_it() -> None:
    times = {"0F0": (0.0, 1.0), "0B0": (1.0, 2.0), "0U0": (2.0, 3.0), "0F1": (3.0, 4.0)}
    found = boxes_of(timeline_of(TWO_STREAMS, {parse_action(name): time for name, time in times.items()}))
    assert found["0F1"].reads == 1
    times |= {"0U0": (3.0, 3.0)}
    found = boxes_of(timeline_of(TWO_STREAMS, {parse_action(name): time for name, time in times.items()}))
    assert found["0F1"].reads == 1
    times |= {"0U0": (2.0, 3.5)}
    found = boxes_of(timeline_of(TWO_STREAMS, {parse_action(name): time for name, time in times.items()}))
    assert found["0F1"].reads == 0


def test_stashed_backward_reads_what_its_forward_read() -> None:
    order = [f"main launch {name}" for name in ("0F0", "0F1", "0B0", "0U0", "0B1")]
    assert boxes_of(planned(program(*order)))["0B1"].reads == 1
    assert boxes_of(planned(program(*order, weights="latest same")))["0B1"].reads == 0


def test_lagging_forward_reads_the_version_that_it_names() -> None:
    order = [f"main launch 0{op}{m}" for m in range(4) for op in "FBU"]
    boxes = boxes_of(planned(program(*order, microbatches=4, weights="lag(2) latest")))
    assert [boxes[f"0F{m}"].reads for m in range(4)] == [0, 0, 0, 1]
    assert [boxes[f"0B{m}"].reads for m in range(4)] == [0, 1, 2, 3]
    assert [boxes[f"0U{m}"].staleness for m in range(4)] == [0, 1, 2, 2]


def test_update_shows_elsewhere_when_its_transfer_has_ended() -> None:
    made = program(
        "main launch 0F0",
        "main record 0F0",
        "side wait 0F0",
        "side launch 0B0",
        "side launch 0U0",
        "side record 0U0",
        "copy[1->0] wait 0U0",
        "copy[1->0] launch 0SEND_U0",
        "main launch 0F1",
        "main launch 0F2",
        "main launch 0F3",
        streams=("main device 0 runs F", "side device 1 runs B U", "copy[1->0] device 1 runs SEND_U"),
        microbatches=4,
        costs="F 1 B 1 U 0 SEND_U 1",
    )
    boxes = boxes_of(planned(made))
    assert [boxes[f"0F{m}"].reads for m in range(4)] == [0, 0, 0, 1]
    assert boxes["0SEND_U0"].writes is None


def test_staleness_of_an_update_is_that_of_its_stalest_microbatch() -> None:
    order = ["0F0", "0F1", "0F2", "0B0", "0B1", "0U0", "0F3", "0B2", "0B3", "0U1", "0F4", "0B4", "0U2"]
    made = program(*(f"main launch {name}" for name in order), microbatches=5, every=2)
    boxes = boxes_of(planned(made))
    assert [boxes[name].staleness for name in ("0U0", "0U1", "0U2")] == [0, 1, 0]


def test_update_without_forwards_has_no_staleness() -> None:
    box = boxes_of(timeline_of(TWO_STREAMS, {parse_action("0U0"): (1.0, 2.0)}))["0U0"]
    assert (box.writes, box.staleness) == (1, None)


def test_waits_are_listed_as_they_end_with_the_idle_time_that_each_added() -> None:
    made = program(
        "a launch 0F0",
        "a record 0F0",
        "b launch 0F1",
        "b record 0F1",
        "c launch 1F0",
        "c record 1F0",
        "main launch 1F1",
        "main wait 0F1",
        "main wait 1F0",
        "main wait 0F0",
        "main launch 1B0",
        streams=tuple(f"{name} device 0 runs F B U" for name in ("a", "b", "c", "main")),
        stages=2,
    )
    times = {"0F0": (0, 5), "0F1": (0, 1), "1F0": (0, 4), "1F1": (0, 2), "1B0": (6, 8)}
    found = boxes_of(timeline_of(made, {parse_action(name): time for name, time in times.items()}))
    assert found["1B0"].waited == (("0F1", 0), ("1F0", 2), ("0F0", 1))
    assert found["1B0"].idle == 3
    assert found["1F1"].waited == ()


def test_only_what_ran_is_in_the_timeline() -> None:
    times = {parse_action("0F0"): (0.5, 1.0), parse_action("0B0"): (1.25, 2.0)}
    timeline = timeline_of(TWO_STREAMS, times, "s")
    assert (times_of(timeline), timeline.end, timeline.unit) == (times, 2.0, "s")
    assert boxes_of(timeline)["0B0"].waited == (("0F0", 1.0),)


def test_times_count_in_the_cost_unit() -> None:
    made = program("main launch 0F0", "main launch 0B0", unit="1/3", costs="F 2 B 3 U 0")
    assert times_of(planned(made)) == {
        parse_action("0F0"): (0, float(Fraction(2, 3))),
        parse_action("0B0"): (float(Fraction(2, 3)), 5 * float(Fraction(1, 3))),
    }


def test_action_of_another_program_is_refused() -> None:
    with pytest.raises(ValueError, match="launches no 1F0"):
        timeline_of(TWO_STREAMS, {parse_action("1F0"): (0.0, 1.0)})


def test_action_that_ends_before_it_starts_is_refused() -> None:
    with pytest.raises(ValueError, match=r"0F0 ends at 1, before its start at 1\.5"):
        timeline_of(TWO_STREAMS, {parse_action("0F0"): (1.5, 1.0)})


def test_endless_program_is_refused() -> None:
    with pytest.raises(ValueError, match="endless"):
        timeline_of(compiled(("sgd",), 1).program(), {})

"""The trace: its events by the rules of the trace event format, and nothing that the timeline does not say."""

from __future__ import annotations

import json
from itertools import pairwise
from typing import Any

import pytest

from asyncpipe.pictures.counters import counters
from asyncpipe.pictures.timeline import Timeline, planned, timeline_of
from asyncpipe.pictures.trace import trace
from tests.pictures.timelines import SCHEDULES, boxes_of, compiled, times_of


def events(timeline: Timeline, *phases: str) -> list[dict[str, Any]]:
    document = json.loads("".join(trace(timeline, "x")))
    return [event for event in document["traceEvents"] if event["ph"] in phases]


@pytest.fixture(params=SCHEDULES, ids=" ".join)
def plan(request: pytest.FixtureRequest) -> Timeline:
    return planned(compiled(request.param, 3).program(5))


def test_every_box_is_one_event_of_its_stream(plan: Timeline) -> None:
    names = {(e["pid"], e["tid"]): e["args"]["name"] for e in events(plan, "M") if e["name"] == "thread_name"}
    assert sorted(names.values()) == sorted(row.name for row in plan.rows)
    found = [(names[e["pid"], e["tid"]], e["name"]) for e in events(plan, "X", "i")]
    assert sorted(found) == sorted((row.name, str(box.action)) for row in plan.rows for box in row.boxes)
    assert {(e["pid"], names[e["pid"], e["tid"]]) for e in events(plan, "X", "i")} <= {
        (row.device, row.name) for row in plan.rows
    }


def test_events_tell_times_versions_and_waits(plan: Timeline) -> None:
    boxes = boxes_of(plan)
    for event in events(plan, "X", "i"):
        box, facts = boxes[event["name"]], event["args"]
        assert event["ts"] == pytest.approx(box.start * 1000, abs=1e-3)
        assert event.get("dur", 0) == pytest.approx((box.end - box.start) * 1000, abs=1e-3)
        for key in ("reads", "writes", "staleness"):
            assert facts.get(key) == getattr(box, key)
        assert facts.get("waited", {}) == {name: time for name, time in box.waited if time > 0}
        assert event["cat"] == box.action.op


def test_rows_do_not_overlap_to_the_nanosecond(plan: Timeline) -> None:
    rows: dict[tuple[int, int], list[dict[str, Any]]] = {}
    for event in events(plan, "X", "i"):
        rows.setdefault((event["pid"], event["tid"]), []).append(event)
    for row in rows.values():
        assert all(round(a["ts"] + a.get("dur", 0), 3) <= b["ts"] for a, b in pairwise(row))


def test_rows_do_not_overlap_where_times_have_no_exact_decimals() -> None:
    made = compiled(("sgd",), 3).program(40)
    third = {action: (start / 3, end / 3) for action, (start, end) in times_of(planned(made)).items()}
    row = events(timeline_of(made, third), "X", "i")
    assert any(event["ts"] % 1 for event in row)
    assert all(round(a["ts"] + a.get("dur", 0), 3) <= b["ts"] for a, b in pairwise(row))


def test_counters_are_those_of_the_timeline(plan: Timeline) -> None:
    expected = [
        (f"stage {counter.stage} {counter.name}", value)
        for counter in counters(plan)
        for _, value in counter.steps
    ]  # fmt: skip
    found = events(plan, "C")
    assert [(event["name"], *event["args"].values()) for event in found] == expected
    processes = {event["pid"]: event["args"]["name"] for event in events(plan, "M") if event["name"] == "process_name"}
    assert {processes[event["pid"]] for event in found} == {"stages"}


def test_arrows_lead_from_what_was_waited_for_to_who_waited(plan: Timeline) -> None:
    """Both ends stand right behind their event, at its start."""
    sources: dict[int, str] = {}
    targets: dict[int, str] = {}
    last: dict[str, Any] = {}
    for event in events(plan, "X", "i", "s", "f"):
        if event["ph"] in "Xi":
            last = event
            continue
        assert [event[key] for key in ("pid", "tid", "ts")] == [last[key] for key in ("pid", "tid", "ts")]
        ends = sources if event["ph"] == "s" else targets
        assert event["id"] not in ends
        ends[event["id"]] = last["name"]
    waits = {(name, text) for text, box in boxes_of(plan).items() for name, time in box.waited if time > 0}
    assert sources.keys() == targets.keys()
    assert {(sources[number], targets[number]) for number in sources} == waits


def test_measured_seconds_stay_seconds() -> None:
    made = compiled(("sgd",), 1).program(1)
    times = {action: (start / 4, end / 4) for action, (start, end) in times_of(planned(made)).items()}
    timeline = timeline_of(made, times, "s")
    document = json.loads("".join(trace(timeline, "run")))
    assert document["otherData"] == {"title": "run", "time": "1 s is shown as 1 s"}
    assert [(e["name"], e["ts"], e.get("dur")) for e in events(timeline, "X", "i")] == [
        ("0F0", 0, 250_000),
        ("0B0", 250_000, 500_000),
        ("0U0", 750_000, None),
    ]


def test_file_comes_in_pieces_of_one_event() -> None:
    pieces = list(trace(planned(compiled(("async-lu",), 2).program(50)), "x"))
    assert len(pieces) > 300
    assert max(map(len, pieces)) < 500


def test_empty_timeline_is_a_valid_trace() -> None:
    assert events(Timeline((), 0.0), "X", "i", "C") == []

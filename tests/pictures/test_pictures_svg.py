"""The SVG as XML: what is in it, and where."""

from __future__ import annotations

import re
from itertools import pairwise
from xml.etree import ElementTree

import pytest

from asyncpipe.ir import Op, parse_action
from asyncpipe.pictures.palette import LOOKS
from asyncpipe.pictures.svg import MOST_BOXES, svg
from asyncpipe.pictures.timeline import Box, Row, Timeline, planned
from tests.pictures.timelines import SCHEDULES, boxes_of, compiled, hand_made

SPACE = "{http://www.w3.org/2000/svg}"


def groups(text: str) -> list[ElementTree.Element]:
    """One group for each box."""
    return ElementTree.fromstring(text).findall(f"{SPACE}g")


def title(group: ElementTree.Element) -> str:
    return group.findtext(f"{SPACE}title") or ""


@pytest.mark.parametrize("schedule", SCHEDULES, ids=" ".join)
def test_every_box_is_drawn_once_and_told_by_its_title(schedule: tuple[str, ...]) -> None:
    timeline = planned(compiled(schedule, 3).program(5))
    found = [title(group).splitlines() for group in groups(svg(timeline, "x"))]
    boxes = boxes_of(timeline)
    assert sorted(lines[0].split()[0] for lines in found) == sorted(boxes)
    for lines in found:
        box = boxes[lines[0].split()[0]]
        assert (f"reads version {box.reads}" in lines) is (box.reads is not None)
        assert (f"staleness {box.staleness}" in lines) is (box.staleness is not None)


@pytest.mark.parametrize("schedule", SCHEDULES, ids=" ".join)
def test_boxes_of_a_row_lie_side_by_side(schedule: tuple[str, ...]) -> None:
    rows: dict[str, list[tuple[float, float]]] = {}
    for group in groups(svg(planned(compiled(schedule, 3).program(5)), "x")):
        for box in group.findall(f"{SPACE}rect"):
            left, width = float(box.attrib["x"]), float(box.attrib["width"])
            rows.setdefault(box.attrib["y"], []).append((left, left + width))
    assert rows
    for extents in rows.values():
        assert all(a[1] < b[0] for a, b in pairwise(sorted(extents)))


def test_lengths_are_proportional_to_times() -> None:
    found = groups(svg(hand_made(main=[("0F0", 0, 1), ("0B0", 1, 3), ("0F1", 5, 8)]), "x"))
    places = [group.find(f"{SPACE}rect").attrib for group in found]  # type: ignore[union-attr]
    (first, start), (second, _), (third, _) = [(float(p["width"]) + 1, float(p["x"])) for p in places]
    assert second == pytest.approx(2 * first, abs=0.02)
    assert third == pytest.approx(3 * first, abs=0.02)
    assert float(places[2]["x"]) - start == pytest.approx(5 * first, abs=0.02)


def test_marks_of_one_instant_lie_below_each_other() -> None:
    marks = [(f"{s}U0", 1.0, 1.0) for s in range(3)]
    found = groups(svg(hand_made(main=[("0F0", 0, 1), *marks]), "x"))[1:]
    paths = [group.find(f"{SPACE}path").attrib["d"] for group in found]  # type: ignore[union-attr]
    points = [re.match(r"M(\S+) (\S+)l", path) for path in paths]
    assert len({point[1] for point in points if point}) == 1
    assert len({point[2] for point in points if point}) == 3


def test_every_op_has_a_legend_and_a_fill_of_its_own() -> None:
    boxes = [(f"0{op}0", float(i), i + 1.0) for i, op in enumerate(Op)]
    text = svg(hand_made(main=boxes), "x")
    words = re.findall(r"<text [^>]*>([A-Z]+ [a-z ]+)</text>", text)
    assert words == [
        *("F forward", "B backward", "I input gradient", "W weight gradient", "U update", "R recompute"),
        *("SYNC replica synchronisation", "SEND transfer"),
    ]
    assert re.findall(r'<pattern id="(\w+)"', text) == [op.value for op in LOOKS]
    fills = re.findall(r'<rect [^>]*rx="2" fill="url\(#(\w+)\)"/>(?:<text class="in"|</g>)', text)
    assert fills == [op.value for op in Op]
    plain = {op: (look.colour, look.fill) for op, look in LOOKS.items() if not op.is_transfer}
    assert len({colour for colour, _ in plain.values()}) == len({fill for _, fill in plain.values()}) == len(plain)


def test_text_can_be_read_on_every_colour() -> None:
    """The contrast that WCAG asks of text, 4.5 to 1."""
    for look in LOOKS.values():
        lighter, darker = sorted((luminance(look.colour), luminance(look.ink)), reverse=True)
        assert (lighter + 0.05) / (darker + 0.05) >= 4.5


def luminance(colour: str) -> float:
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def test_streams_stand_with_their_device() -> None:
    box = Box(parse_action("0F0"), 0.0, 1.0)
    text = svg(Timeline(tuple(Row(name, device, (box,)) for name, device in [("a", 1), ("b", 0), ("c", 1)]), 1.0), "x")
    assert re.findall(r">(device \d|[abc])<", text) == ["device 0", "b", "device 1", "a", "c"]


def test_title_and_names_are_escaped() -> None:
    text = svg(Timeline((Row("a<b>&", 0, ()),), 0.0), "<script>&")
    root = ElementTree.fromstring(text)
    assert root.findtext(f"{SPACE}title") == "<script>&"
    assert "a<b>&" in [element.text for element in root.iter(f"{SPACE}text")]


def test_nothing_outside_the_file_is_needed() -> None:
    text = svg(planned(compiled(("async-lu",), 2).program(3)), "x")
    assert text.count("http") == text.count('xmlns="http://www.w3.org/2000/svg"') == 1
    assert not re.search(r"href|@import|<script|<image|url\((?!#)", text)


def test_too_many_boxes_are_refused() -> None:
    box = Box(parse_action("0F0"), 0.0, 1.0)
    with pytest.raises(ValueError, match="at most 20,000 boxes, not 20,001"):
        svg(Timeline((Row("main", 0, (box,) * (MOST_BOXES + 1)),), 1.0), "x")

"""Charts as scenes: everything lies inside its frame, whatever the numbers; both renderers draw the same shapes."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from asyncpipe.pictures.timeline import planned
from asyncpipe.tools.report.chart import Chart, Curve, Histogram, draw_chart, draw_histogram
from asyncpipe.tools.report.scene import Area, Label, Line, Rect, Scene, svg, write_png
from asyncpipe.tools.report.timelines import draw_timeline
from tests.pictures.timelines import compiled

numbers = st.floats(-1e6, 1e6, allow_nan=False)


def curve(values: list[float], style: int = 0) -> Curve:
    x = tuple(map(float, range(len(values))))
    return Curve(f"curve {style}", x, tuple(values), tuple(v - 1 for v in values), tuple(v + 1 for v in values), style)


def points(scene: Scene) -> list[tuple[float, float]]:
    return [point for shape in scene.shapes if isinstance(shape, Line | Area) for point in shape.points]


@given(st.lists(numbers, min_size=1, max_size=8))
def test_curves_lie_inside_their_axes(values: list[float]) -> None:
    scene = draw_chart(Chart("name", "Title", "samples", (curve(values),)))
    assert all(57.9 <= x <= scene.width and 43.9 <= y <= scene.height for x, y in points(scene))
    labels = [float(s.text) for s in scene.shapes if isinstance(s, Label) and s.anchor == "end" and s.text != "samples"]
    assert min(labels) <= min(values) - 1 + 1e-6 * abs(min(values))
    assert max(labels) >= max(values) + 1 - 1e-6 * abs(max(values))


@pytest.mark.parametrize("values", [[], [0.0], [5.0, 5.0], [1e-9, 2e-9], [-3.0, 4e5]])
def test_unusual_numbers_have_a_chart(values: list[float]) -> None:
    ElementTree.fromstring(svg(draw_chart(Chart("name", "A < B & C", "samples", (curve(values),) if values else ()))))


def test_more_curves_than_colours_are_dashed() -> None:
    scene = draw_chart(Chart("name", "Title", "samples", tuple(curve([1.0, 2.0], i) for i in range(20))))
    looks = [(shape.colour, shape.dash) for shape in scene.shapes if isinstance(shape, Line) and shape.width == 1.8]
    assert len(set(looks)) == len(looks) == 20
    names = [shape for shape in scene.shapes if isinstance(shape, Label) and shape.text.startswith("curve")]
    assert len({(name.x, name.y) for name in names}) == 20
    assert max(name.y for name in names) < scene.height


def test_histogram_of_many_stages_and_values_stays_small() -> None:
    scene = draw_histogram(Histogram("name", "Title", tuple({i: 0.5, i + 300: 0.5} for i in range(200))))
    assert scene.height < 1400
    assert all(shape.x + shape.width <= scene.width for shape in scene.shapes if isinstance(shape, Rect))


def test_renderers_agree_on_colours_and_dashes(tmp_path: Path) -> None:
    shapes = (
        Rect(10, 10, 20, 20, "#ff0000", "a title"),
        Area(((40, 10), (60, 10), (60, 30), (40, 30)), "#0000ff", 0.5),
        Line(((10, 50), (90, 50)), "#00ff00", 4, (10, 10)),
        Label(50, 80, "x < y", "middle"),
    )
    scene = Scene(100, 100, "T & U", shapes)
    root = ElementTree.fromstring(svg(scene))
    found = [(element.tag.rpartition("}")[2], element.get("fill"), element.get("stroke")) for element in root]
    assert found[1:] == [
        ("rect", "#ffffff", None),
        ("rect", "#ff0000", None),
        ("polygon", "#0000ff", None),
        ("polyline", "none", "#00ff00"),
        ("text", "#14181d", None),
    ]
    write_png(scene, tmp_path / "x.png")
    with Image.open(tmp_path / "x.png") as image:
        pixel = image.load()
    assert pixel is not None
    assert pixel[40, 40] == (255, 0, 0)
    assert pixel[100, 40] == (127, 127, 255)
    # Drawn from 10 to 20, left out to 30, and so on; two pixels for a unit.
    assert [pixel[2 * x, 100] for x in (15, 25, 35, 45, 75)] == [(0, 255, 0), (255, 255, 255)] * 2 + [(0, 255, 0)]


def test_timeline_has_every_box_and_mark() -> None:
    timeline = planned(compiled(("async-lu",), 3).program(6))
    scene = draw_timeline(timeline, "async-lu")
    texts = {shape.text for shape in scene.shapes if isinstance(shape, Label)}
    boxes = [box for row in timeline.rows for box in row.boxes]
    assert {str(box.action) for box in boxes if box.end > box.start} <= texts
    assert sum(isinstance(shape, Area) for shape in scene.shapes) == sum(box.end == box.start for box in boxes)
    assert all(x <= scene.width and y <= scene.height for x, y in points(scene))

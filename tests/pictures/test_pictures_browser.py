"""The page in a real browser: its own self-test plays a user, and what the page did is compared with the timeline."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from asyncpipe.pictures.describe import describe
from asyncpipe.pictures.html import Panel, html
from asyncpipe.pictures.palette import LOOKS
from asyncpipe.pictures.timeline import Box, Timeline, planned
from tests.pictures.pages import Page
from tests.pictures.timelines import boxes_of, compiled, hand_made

BROWSER = next(filter(None, map(shutil.which, ("google-chrome", "chromium", "chromium-browser"))), None)
pytestmark = pytest.mark.skipif(BROWSER is None, reason="needs Chromium or Chrome on the PATH")

SHOWN = 30
"""Boxes of each row that the self-test visits."""


def opened(folder: Path, panels: list[Panel], fragment: str = "#selftest") -> Page:
    """The page as the browser has it once its scripts have run."""
    assert BROWSER is not None
    file = folder / "page.html"
    file.write_text("".join(html("A <title> & more", panels)), "utf-8")
    sandbox = ["--no-sandbox"] if os.geteuid() == 0 else []
    command = [
        *(BROWSER, "--headless", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run", *sandbox),
        *(
            f"--user-data-dir={folder / 'profile'}",
            "--window-size=1300,900",
            "--dump-dom",
            f"{file.as_uri()}{fragment}",
        ),
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=100)
    return Page(done.stdout)


@pytest.fixture(scope="module")
def panels() -> list[Panel]:
    """A plan on two devices with transfers that take time, and another with updates that take none."""
    split = "streams={main: {runs: [F, I, W, U], per: device}}"
    costs = "costs={SEND: 1/2, U: 1/2}"
    devices = planned(compiled(("sgd", "devices=2", split, costs), 4).program(5))
    return [Panel("plan", devices, (("period", "?"),)), Panel("other", planned(compiled(("async-bu",), 3).program(7)))]


@pytest.fixture(scope="module")
def played(panels: list[Panel], tmp_path_factory: pytest.TempPathFactory) -> Any:
    page = opened(tmp_path_factory.mktemp("page"), panels)
    return json.loads(page.texts["selftest"])


def test_every_box_arrives_and_is_drawn(panels: list[Panel], played: Any) -> None:
    assert played["failures"] == []
    assert played["boxes"] == sum(panel.timeline.size for panel in panels)
    instants = sum(len(instants_of(panel.timeline)) for panel in panels)
    assert played["drawn"] == played["boxes"] - instants


def instants_of(timeline: Timeline) -> list[Box]:
    """What takes no time and shares its mark with the one before it."""
    found = []
    for row in timeline.rows:
        marks = [box for box in row.boxes if box.end == box.start]
        found += [b for a, b in pairwise(marks) if a.start == b.start]
    return found


def test_wheel_zooms_around_the_pointer(played: Any) -> None:
    before, after = played["all"], played["wheel"]
    assert after["scale"] > 1.5 * before["scale"]
    assert after["start"] > before["start"]
    assert after["moved"] * after["scale"] < 1
    assert after["drawn"] < played["drawn"]


def test_drag_moves_the_time(played: Any) -> None:
    assert played["drag"] == pytest.approx(40)


def test_keys_and_buttons_zoom(played: Any) -> None:
    assert played["key0"] == played["all"] == played["button"]
    assert played["keyPlus"]["scale"] == pytest.approx(1.5 * played["all"]["scale"])


def test_hover_tells_what_the_timeline_knows(panels: list[Panel], played: Any) -> None:
    visits = [(visit["panel"], visit["row"], visit["box"]) for visit in played["hover"]]
    assert visits == [
        (panel.name, row.name, str(box.action))
        for panel in panels
        for row in panel.timeline.rows
        for box in row.boxes[:SHOWN]
    ]  # fmt: skip
    boxes = {panel.name: boxes_of(panel.timeline) for panel in panels}
    for visit in played["hover"]:
        expected = describe(boxes[visit["panel"]][visit["box"]], visit["row"])
        assert expected in visit["tip"].split("\n\n")


def test_boxes_have_the_colours_of_their_ops(panels: list[Panel], played: Any) -> None:
    boxes = boxes_of(panels[0].timeline)
    assert len(played["colours"]) >= 12
    assert {boxes[name].action.op for name, _ in played["colours"]} >= set("FIWU")
    for name, colour in played["colours"]:
        look = LOOKS[boxes[name].action.op]
        assert distance(colour, look.colour) < distance(look.ink, look.colour) / 4


def distance(a: str, b: str) -> float:
    parts = [(int(a[i : i + 2], 16) - int(b[i : i + 2], 16)) ** 2 for i in (1, 3, 5)]
    return float(sum(parts) ** 0.5)


def test_click_shows_what_led_to_a_box(panels: list[Panel], played: Any) -> None:
    timeline, click = panels[0].timeline, played["click"]
    boxes = boxes_of(timeline)
    chain = [boxes[name] for name in click["chain"]]
    assert str(chain[0].action) == click["selected"]
    assert chain[0].end == timeline.end
    assert chain[-1].start == 0
    for after, before in pairwise(chain):
        assert after.start == before.end
    assert " ← ".join(click["chain"][:40]) in click["detail"]


def test_escape_and_keys_select(played: Any) -> None:
    assert played["escape"] == {"selected": None, "detail": ""}
    assert (played["enter"], played["next"]) == ("0F0", "1F0")


def test_fragment_names_the_selected_action(panels: list[Panel], tmp_path: Path) -> None:
    page = opened(tmp_path, panels, "#1F2")
    assert page.texts["detail"].startswith("1F2 forward, ")
    assert "selftest" not in page.texts


def test_page_of_nothing_opens(tmp_path: Path) -> None:
    root = opened(tmp_path, [Panel("plan", Timeline((), 0.0))], "").attributes("html")[0]
    assert (root["data-failures"], root["data-boxes"]) == ("0", "0")


def test_very_many_boxes_are_drawn_as_few(tmp_path: Path) -> None:
    main = [(f"0F{i}", float(i), i + 1.0) for i in range(100_000)]
    root = opened(tmp_path, [Panel("plan", hand_made(main=main))], "").attributes("html")[0]
    assert (root["data-failures"], root["data-boxes"]) == ("0", "100000")
    assert 500 < int(root["data-drawn"] or 0) < 1300

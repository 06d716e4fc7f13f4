"""The report in a real browser: curves and schedules are painted, under a policy that lets nothing in."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest
from PIL import Image

from tests.command_line import invoke
from tests.pictures.pages import Page
from tests.tools.run_folders import write_run

BROWSER = next(filter(None, map(shutil.which, ("google-chrome", "chromium", "chromium-browser"))), None)
pytestmark = pytest.mark.skipif(BROWSER is None, reason="needs Chromium or Chrome on the PATH")

CURVES = [(0x00, 0x72, 0xB2), (0xD5, 0x5E, 0x00)]
"""Of the two groups."""
FORWARD = (0x6D, 0xB8, 0xEC)
"""Of the boxes of a schedule, which is an image inside the page."""


def browse(page: Path, *options: str) -> str:
    assert BROWSER is not None
    sandbox = ["--no-sandbox"] if os.geteuid() == 0 else []
    profile = f"--user-data-dir={page.parent / 'profile'}"
    quiet = ["--headless", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run", "--hide-scrollbars"]
    command = [BROWSER, *quiet, *sandbox, profile, "--window-size=1300,2600", *options, page.as_uri()]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=100).stdout


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("report")
    for seed, last in enumerate((0.9, 0.95)):
        write_run(folder / "runs" / f"a{seed}", "async-lu", seed, (0.5, 0.8, last))
        write_run(folder / "runs" / f"b{seed}", "sgd", seed, (0.4, 0.7, last), (20.0, 40.0, 60.0))
    outcome = invoke("tools", "report", str(folder / "runs"), "--out", str(folder))
    assert outcome.code == 0, outcome.stderr
    return folder / "report.html"


def test_browser_reads_what_was_written(page: Path) -> None:
    opened, written = Page(browse(page, "--dump-dom")), Page(page.read_text("utf-8"))
    for tag in ("figure", "svg", "polyline", "polygon", "td", "img"):
        assert len(opened.attributes(tag)) == len(written.attributes(tag)) > 0
    assert opened.data == written.data


def test_browser_paints_curves_and_schedules(page: Path) -> None:
    picture = page.parent / "page.png"
    browse(page, f"--screenshot={picture}")
    with Image.open(picture) as image:
        assert image.size == (1300, 2600)
        colours = {colour[:3]: count for count, colour in image.getcolors(1 << 24)}  # type: ignore[union-attr,index]
    assert all(colours.get(curve, 0) > 200 for curve in CURVES)
    assert colours.get(FORWARD, 0) > 2000

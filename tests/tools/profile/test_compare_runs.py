"""`show --compare`: a measured run beside its simulation, whole in the terminal, and on the page."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.command_line import invoke
from tests.pictures.pages import Page
from tests.tools.profile.measured import profiled, write_profile

PICTURE = """\
async-lu: 2 stages, microbatches 24 to 29 of 48, measured and simulated
forward measured      |24- .24- .25- 1F25 .......0F26 1F26 27- 1F27 .......0F28 1F28 29- 1F29 .......0F30 30 |
forward simulated     |0F24 1F24 0F25 1F25- ........0F26 1F26 0F27 1F27 ........0F28 1F28- 0F29 1F29 ........|
backward[0] measured  |.........1B24=== #0B24== #..........1B26== #0B26== #..........1B28== #0B28== #........|
backward[0] simulated |..........1B24==== #0B24== # ..........1B26=== # 0B26== #...........1B28=== #0B28=== #|
backward[1] measured  |# 0B23= #..........1B25== # 0B25= # .........1B27== .#0B27== #.........1B29=== #0B29= |
backward[1] simulated |# 0B23== #...........1B25=== #0B25=== #..........1B27==== #0B27== # ..........1B29=== |
time, ms               0          5          10          15         20         25         30         35
measured 5.835 ms per microbatch; simulated 6.412 ms on 2 workers: +9.9%
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_measured_and_simulated_rows_stand_below_each_other(folder: Path) -> None:
    write_profile(Path("run"), slower=1.1)
    outcome = invoke("show", "async-lu", "--compare", "run", "--width", "110")
    assert (outcome.code, outcome.stdout, outcome.stderr) == (0, PICTURE, "")


def test_simulation_of_a_replayed_run_is_that_run(folder: Path) -> None:
    write_profile(Path("run"), profiled("ddp", 2))
    outcome = invoke("show", "ddp", "--compare", "run", "--json")
    found = json.loads(outcome.stdout)
    assert found["error"] == pytest.approx(0, abs=1e-6)
    for measured, simulated in zip(found["measured"], found["simulated"], strict=True):
        assert (measured["name"], measured["device"]) == (simulated["name"], simulated["device"])
        one, other = (
            {box["action"]: (box["start"], box["end"]) for box in row["actions"]} for row in (measured, simulated)
        )
        # A box on the edge of the picture may be a picosecond inside or outside.
        assert len(one.keys() ^ other.keys()) <= 1 < len(one.keys() & other.keys())
        for action in one.keys() & other.keys():
            assert one[action] == pytest.approx(other[action], abs=1e-8)


def test_page_has_both_timelines_and_the_error(folder: Path) -> None:
    write_profile(Path("run"), slower=1.1)
    outcome = invoke(
        "show", "async-lu", "--compare", "run", "--html", "both.html", "--svg", "both.svg", "--trace", "t.json"
    )
    assert (outcome.code, outcome.stdout) == (0, "")
    assert outcome.stderr == "wrote both.svg\nwrote both.html\nwrote t.json\n"
    page = Page(Path("both.html").read_text("utf-8"))
    assert [panel["name"] for panel in page.data["panels"]] == ["measured", "simulated"]
    assert page.data["unit"] == "ms"
    assert "on 2 workers: +9.9%" in Path("both.html").read_text("utf-8")
    picture = Path("both.svg").read_text("utf-8")
    assert picture.count("backward[1] measured<") == picture.count("backward[1] simulated<") == 1
    assert ">time, ms<" in picture
    names = {
        event["args"]["name"]
        for event in json.loads(Path("t.json").read_text())["traceEvents"]
        if event["ph"] == "M" and "name" in event["args"]
    }
    assert {"forward", "backward[0]", "backward[1]"} < names


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["sgd", "--compare", "run"], "run is a run of another schedule than sgd: async-lu, or changed since\n"),
        (
            ["async-lu", "--compare", "run", "-o", "in_flight=2"],
            "run is a run of another schedule than async-lu: async-lu",
        ),
        (["async-lu", "--compare", "none"], "none/profile.json: cannot be read: No such file or directory\n"),
        (["async-lu", "--compare", "empty"], "empty: has no measured run\n"),
        (["async-lu", "--compare", "lost"], "lost/timeline.csv: cannot be read: No such file or directory\n"),
        (["async-lu", "--compare", "run", "--stages", "2"], "--stages has no meaning with --compare\n"),
        (["async-lu", "--compare", "run", "--costs", "F=1", "--microbatches", "9"], "--microbatches, --costs have no"),
        (["async-lu", "--compare", "run", "--level", "L1"], "--level has no meaning with --compare\n"),
    ],
)
def test_what_cannot_be_compared_is_refused_with_its_reason(folder: Path, arguments: list[str], message: str) -> None:
    write_profile(Path("run"))
    (write_profile(Path("lost")) / "timeline.csv").unlink()
    Path("empty").mkdir()
    Path("empty/profile.json").write_text("{}")
    outcome = invoke("show", *arguments)
    assert (outcome.code, outcome.stdout) == (2, "")
    assert outcome.stderr.startswith(f"error: {message}")


def test_profile_gives_the_costs_of_other_commands(folder: Path) -> None:
    write_profile(Path("run"))
    arguments = ("async-lu", "--stages", "2", "--costs", "run/profile.json")
    found = json.loads(invoke("simulate", *arguments, "--workers", "2", "--json").stdout)
    known = json.loads(Path("run/profile.json").read_text())
    assert found["workers"]["count"] == 2
    assert found["workers"]["period"] == pytest.approx(known["period_s"], rel=0.01)
    assert found["period"] == pytest.approx(known["predicted"]["period_on_own_processors_s"], rel=0.01)
    assert "costs F=0.002,0.0022 B=0.003,0.0033 U=0.0005,0.00055\n" in invoke("check", *arguments).stdout

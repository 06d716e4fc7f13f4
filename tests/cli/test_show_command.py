"""`asyncpipe show`: pictures and levels compared whole, its JSON by the contract."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from asyncpipe.ir import parse_program, parse_table
from asyncpipe.schedule import library
from tests.command_line import invoke
from tests.update_cases import GOLDEN, WITH_LEVELS, golden_cases, golden_text

CASES = dict(golden_cases())
FIGURE_1 = """\
async-lu: 3 stages, 4 microbatches
forward     |0F0 1F0 2F0 0F1 1F1 2F1 0F2 1F2 2F2 0F3 1F3 2F3 ........................|
backward[0] |............2B0==== 1B0==== 0B0==== 2B2==== 1B2==== 0B2==== ............|
            |                    ^2U0    ^1U0    ^0U0    ^2U2    ^1U2    ^0U2
backward[1] |........................2B1==== 1B1==== 0B1==== 2B3==== 1B3==== 0B3==== |
            |                                ^2U1    ^1U1    ^0U1    ^2U3    ^1U3    ^0U3
time         0       2       4       6       8       10      12      14      16      18
period 3 per microbatch; staleness per stage 2 1 0
"""


@pytest.mark.parametrize("file", CASES)
def test_library_is_shown_as_it_was(file: str) -> None:
    assert golden_text(CASES[file]) == (GOLDEN / file).read_text("utf-8")


def test_every_golden_text_is_compared() -> None:
    assert {path.name for path in GOLDEN.iterdir()} == set(CASES)
    assert len(CASES) == len(library()) + 4 * len(WITH_LEVELS)


def test_async_lu_of_three_stages_is_figure_1_of_the_paper() -> None:
    """One forward stream without a gap, two backward streams in turns, each stage updated as soon as it has its B."""
    outcome = invoke("show", "schedules/async-lu.yaml", "--stages", "3", "--microbatches", "4", "--width", "110")
    assert (outcome.code, outcome.stdout, outcome.stderr) == (0, FIGURE_1, "")


@pytest.mark.parametrize("name", library())
def test_levels_read_back(name: str) -> None:
    for count in ([], ["--microbatches", "7"]):
        table = invoke("show", name, "--level", "L1", *count).stdout
        assert str(parse_table(table)) == table
        program = invoke("show", name, "--level", "L2", *count).stdout
        assert str(parse_program(program)) == program


@pytest.mark.parametrize("level", ["L0", "L1", "L2"])
def test_json_of_a_level_holds_its_text(level: str) -> None:
    text = invoke("show", "sgd", "--level", level).stdout
    document = json.loads(invoke("show", "sgd", "--level", level, "--json").stdout)
    assert document == {"schema": "asyncpipe.show/1", "level": level, "text": text}


def test_json_of_a_picture_holds_its_boxes() -> None:
    outcome = invoke("show", "async-lu", "--stages", "2", "--microbatches", "3", "--json")
    document = json.loads(outcome.stdout)
    assert (outcome.code, outcome.stderr) == (0, "")
    assert list(document) == ["schema", "schedule", "stages", "microbatches", "makespan", "streams"]
    assert document["schema"] == "asyncpipe.show/1"
    assert (document["schedule"], document["stages"], document["microbatches"]) == ("async-lu", 2, 3)
    assert document["makespan"] == 10
    forward, *backward = document["streams"]
    assert forward == {
        "name": "forward",
        "device": 0,
        "busy": 6,
        "actions": [
            {"action": f"{s}F{m}", "start": 2 * m + s, "end": 2 * m + s + 1} for m in range(3) for s in range(2)
        ],
    }
    assert [stream["name"] for stream in backward] == ["backward[0]", "backward[1]"]
    assert [a["action"] for a in backward[1]["actions"]] == ["1B1", "1U1", "0B1", "0U1"]
    assert backward[1]["actions"][1] == {"action": "1U1", "start": 6, "end": 6}


def test_costs_change_the_picture() -> None:
    outcome = invoke("show", "sgd", "--stages", "1", "--microbatches", "2", "--costs", "F=2,B=1,U=1", "--no-color")
    assert outcome.stdout == (
        "sgd: 1 stage, 2 microbatches\n"
        "main |0F0---- 0B0 0U0 0F1---- 0B1 0U1 |\n"
        "time  0       2       4       6       8\n"
        "period 4 per microbatch; staleness per stage 0\n"
    )


def test_picture_is_coloured_only_when_asked_or_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    arguments = ["show", "sgd", "--stages", "2"]
    plain = invoke(*arguments).stdout
    assert "\x1b" not in plain
    assert invoke(*arguments, "--no-color").stdout == plain
    coloured = invoke(*arguments, "--color").stdout
    assert re.sub(r"\x1b\[[\d;]*m", "", coloured) == plain
    assert "\x1b[" in coloured
    monkeypatch.setenv("NO_COLOR", "1")
    assert invoke(*arguments).stdout == plain
    assert invoke(*arguments, "--color").stdout == coloured


@pytest.mark.parametrize("width", [40, 77, 110, 1000])
def test_picture_keeps_to_its_width(width: int) -> None:
    outcome = invoke("show", "async-bu", "--stages", "5", "--width", str(width), "--no-color")
    rows = [line for line in outcome.stdout.splitlines() if "|" in line]
    assert sum(" |" in row for row in rows) >= 3
    assert max(map(len, rows)) <= width
    assert ("--width" in outcome.stdout) is (width < 1000)


def test_named_width_shows_all() -> None:
    outcome = invoke("show", "async-lu", "--stages", "4", "--width", "60")
    found = re.search(r"of (\d+); --width (\d+) shows all", outcome.stdout)
    assert found is not None
    whole = invoke("show", "async-lu", "--stages", "4", "--width", found[2]).stdout
    assert "shows all" not in whole
    narrower = invoke("show", "async-lu", "--stages", "4", "--width", str(int(found[2]) - 1)).stdout
    assert "shows all" in narrower


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        (["--level", "L3"], ["'--level'", "'L3'", "'L0', 'L1', 'L2'"]),
        (["--width", "10"], ["'--width'", "40<=x<=10000"]),
        (["more"], ["unexpected extra argument", "more"]),
    ],
)
def test_wrong_options_are_usage_errors(arguments: list[str], parts: list[str]) -> None:
    outcome = invoke("show", "sgd", *arguments)
    assert (outcome.code, outcome.stdout) == (2, "")
    assert all(part in outcome.stderr.partition("Error: ")[2] for part in parts)


def test_too_many_microbatches_for_a_picture_is_a_usage_error() -> None:
    outcome = invoke("show", "sgd", "--microbatches", "1000000000")
    assert outcome.code == 2
    assert outcome.stderr == (
        "error: a picture shows at most 10,000 microbatches, not 1,000,000,000\n"
        "  help: use fewer; `--level L1` and `--level L2` show any number\n"
    )
    assert invoke("show", "sgd", "--microbatches", "1000000000", "--level", "L2").code == 0


def test_invalid_schedule_is_explained_like_by_check() -> None:
    arguments = ["async-lu", "-o", "in_flight=0", "-o", "rules=[F after B]"]
    shown, checked = invoke("show", *arguments), invoke("check", *arguments)
    assert (shown.code, shown.stdout) == (3, "")
    assert shown.stderr == checked.stderr
    assert shown.stderr.startswith(
        "<-o rules=[F after B]>:1:2: error[AP111]: expected OP[stage, index] as target, found 'F'\n"
    )


def test_pictures_go_into_files_and_stderr_names_them(tmp_path: Path) -> None:
    files = {option: str(tmp_path / f"x.{option}") for option in ("svg", "html", "trace")}
    options = [word for option, file in files.items() for word in (f"--{option}", file)]
    outcome = invoke("show", "async-lu", "--stages", "2", *options)
    assert (outcome.code, outcome.stdout) == (0, "")
    assert outcome.stderr == "".join(f"wrote {file}\n" for file in files.values())
    assert (tmp_path / "x.svg").read_text().startswith("<svg ")
    assert (tmp_path / "x.html").read_text().startswith("<!DOCTYPE html>")
    assert json.loads((tmp_path / "x.trace").read_text())["displayTimeUnit"] == "ms"
    assert len(list(tmp_path.iterdir())) == 3


@pytest.mark.parametrize("option", ["--svg", "--html", "--trace"])
def test_dash_is_stdout(option: str, tmp_path: Path) -> None:
    file = tmp_path / "x"
    invoke("show", "sgd", "--stages", "2", option, str(file))
    outcome = invoke("show", "sgd", "--stages", "2", option, "-")
    assert (outcome.code, outcome.stdout, outcome.stderr) == (0, file.read_text("utf-8"), "")


def test_page_of_a_plan_tells_its_steady_state() -> None:
    text = invoke("show", "async-lu", "--stages", "3", "--html", "-").stdout
    facts = dict(re.findall(r"<dt>(.*?)</dt><dd>(.*?)</dd>", text))
    assert facts == {"period": "3 per microbatch", "staleness per stage": "2 1 0", "makespan": "36", "work": "90"}


def test_json_and_files_come_together(tmp_path: Path) -> None:
    file = tmp_path / "x.svg"
    outcome = invoke("show", "sgd", "--json", "--svg", str(file))
    assert json.loads(outcome.stdout)["schema"] == "asyncpipe.show/1"
    assert (outcome.stderr, file.exists()) == (f"wrote {file}\n", True)


def test_file_that_is_replaced_stays_whole_until_then(tmp_path: Path) -> None:
    """A link stays a link, and a picture that cannot be made leaves what was there."""
    file, link = tmp_path / "x.svg", tmp_path / "link.svg"
    file.write_text("old")
    link.symlink_to(file)
    failed = invoke("show", "sgd", "--microbatches", "2000", "--stages", "4", "--svg", str(link))
    assert failed.code == 2
    assert failed.stderr == (
        "error: --svg shows at most 20,000 boxes, not 24,000\n"
        "  help: use fewer --microbatches or --stages; --html and --trace show more\n"
    )
    assert file.read_text() == "old"
    assert invoke("show", "sgd", "--svg", str(link)).code == 0
    assert file.read_text().startswith("<svg ")
    assert link.is_symlink()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["link.svg", "x.svg"]


@pytest.mark.parametrize(
    ("name", "reason"), [("none/x.svg", "No such file or directory"), ("folder", "Is a directory"), ("", "")]
)
def test_file_that_cannot_be_written_is_a_usage_error(name: str, reason: str, tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    outcome = invoke("show", "sgd", "--svg", str(tmp_path / name) if name else "")
    assert (outcome.code, outcome.stdout) == (2, "")
    assert outcome.stderr.startswith("error: --svg ")
    assert reason in outcome.stderr
    assert "  help: " in outcome.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["folder"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--level", "L0", "--stages", "3"], "--stages has no meaning with --level L0"),
        (
            ["--level", "L0", "--costs", "F=2", "--microbatches", "3"],
            "--microbatches, --costs have no meaning with --level L0",
        ),
        (["--level", "L1", "--width", "50"], "--width has no meaning with --level L1"),
        (["--level", "L2", "--svg", "x.svg"], "--svg has no meaning with --level L2"),
        (["--level", "L2", "--color"], "--color has no meaning with --level L2"),
        (["--json", "--width", "50"], "--width has no meaning with --json"),
        (["--html", "x.html", "--width", "50"], "--width has no meaning with --html"),
        (["--svg", "-", "--html", "-"], "--svg and --html both write to stdout"),
        (["--json", "--trace", "-"], "--json and --trace both write to stdout"),
        (["--svg", "x", "--html", "./x"], "--svg and --html both write to ./x"),
    ],
)
def test_options_without_meaning_are_named(arguments: list[str], message: str) -> None:
    outcome = invoke("show", "sgd", *arguments)
    assert (outcome.code, outcome.stdout) == (2, "")
    assert outcome.stderr.splitlines()[0] == f"error: {message}"
    assert outcome.stderr.splitlines()[1].startswith("  help: ")


def test_too_large_a_plan_is_a_usage_error() -> None:
    outcome = invoke("show", "sgd", "--stages", "100", "--microbatches", "10000")
    assert (outcome.code, outcome.stdout) == (2, "")
    assert outcome.stderr.startswith("error: a picture shows at most 2,000,000 launches and waits, not ")

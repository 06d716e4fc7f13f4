"""`asyncpipe import`: two files that `check` accepts, or none and every reason."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from asyncpipe.tables import NAMES, rows
from asyncpipe.tables.csv_text import csv_text
from tests.command_line import Outcome, invoke

TABLE = "0F0,0F1,0B0,0B1\n1F0,1B0,1F1,1B1\n"
SCHEDULE = """\
asyncpipe: 1
name: mine
description: 2 microbatches for each update, on 2 stages, in the order of a table.
stages: 2
devices: 2
place: [0, 1]
streams:
  compute: {runs: [F, B, U], per: device, table: mine.csv}
rules:
  - F[0, m] after U[*, g-1]            # the flush
update: {every: 2}
"""


def run(folder: Path, text: str, *arguments: str, dialect: str = "torch-csv") -> Outcome:
    """Imports `text` from t.csv as mine.yaml."""
    (folder / "t.csv").write_text(text)
    return invoke("import", str(folder / "t.csv"), "--from", dialect, "--out", str(folder / "mine.yaml"), *arguments)


def test_a_table_becomes_a_schedule(tmp_path: Path) -> None:
    outcome = run(tmp_path, "0F0, ,0F1,,0B0,0B1,,\r\n,1F0,1B0,1F1,1B1\r\n")
    path = tmp_path / "mine.yaml"
    assert (outcome.code, outcome.stderr) == (0, "")
    assert outcome.stdout == f"{path}, {tmp_path}/mine.csv: 2 stages on 2 devices, 2 microbatches for each update\n"
    assert path.read_text() == SCHEDULE
    assert (tmp_path / "mine.csv").read_text() == TABLE
    assert sorted(file.name for file in tmp_path.iterdir()) == ["mine.csv", "mine.yaml", "t.csv"]


@pytest.mark.parametrize("name", NAMES)
def test_check_accepts_what_is_imported(name: str, tmp_path: Path) -> None:
    stages = 6 if name in ("zbv", "dualpipev") else 3
    assert run(tmp_path, csv_text(rows(name, 3, stages, 6))).code == 0
    outcome = invoke("check", str(tmp_path / "mine.yaml"), "--json")
    assert (outcome.code, outcome.stderr) == (0, "")
    (instance,) = json.loads(outcome.stdout)["instances"]
    assert (instance["stages"], instance["staleness"]["max"]) == (stages, [0] * stages)


def test_check_accepts_what_is_imported_from_a_zero_bubble_print(tmp_path: Path) -> None:
    text = "f0 sf0 f1 sf1 rb0 b0 w0 rb1 b1 w1\nrf0 f0 b0 sb0 w0 rf1 f1 b1 sb1 w1\n"
    outcome = run(tmp_path, text, dialect="zero-bubble")
    assert outcome.code == 0
    assert "note[AP130]: left out: 8 transfers\n" in outcome.stderr
    assert (tmp_path / "mine.csv").read_text() == "0F0,0F1,0I0,0W0,0I1,0W1\n1F0,1I0,1W0,1F1,1I1,1W1\n"
    assert invoke("check", str(tmp_path / "mine.yaml")).code == 0


def test_a_choice_that_lines_leave_open_can_be_made(tmp_path: Path) -> None:
    text = "f0 F0 B0 b0\nf0 F0 B0 b0\n"
    assert run(tmp_path, text, dialect="zero-bubble").code == 3
    assert run(tmp_path, text, "--place", "v", dialect="zero-bubble").code == 0
    assert "place: [0, 1, 1, 0]\n" in (tmp_path / "mine.yaml").read_text()
    assert invoke("check", str(tmp_path / "mine.yaml")).code == 0


def test_json_says_what_was_written(tmp_path: Path) -> None:
    text = "(0F0;0I0)OVERLAP_F_B,0W0,0F1,0B1\n"
    document = json.loads(run(tmp_path, text, "--json").stdout)
    assert document == {
        "schema": "asyncpipe.import/1",
        "schedule": str(tmp_path / "mine.yaml"),
        "table": str(tmp_path / "mine.csv"),
        "devices": 1,
        "stages": 1,
        "microbatches": 2,
        "notes": [
            "(0F0;0I0)OVERLAP_F_B: the actions run one after another, in the order written",
            "every B became I and W, since some backwards are in halves, and a schedule has one kind",
        ],
    }


def test_errors_are_told_at_once_and_nothing_is_written(tmp_path: Path) -> None:
    outcome = run(tmp_path, "0F0,0F0,0B0\n1B0,1F0 # x\n")
    assert (outcome.code, outcome.stdout) == (3, "")
    file = tmp_path / "t.csv"
    assert outcome.stderr == (
        f"{file}:1:5: error[AP131]: 0F0 is here a second time\n"
        "    1 | 0F0,0F0,0B0\n"
        "      |     ^^^\n"
        f"  = {file}:1: the first\n"
        "  = help: each action happens once: remove one\n"
        f"{file}:2:1: error[AP136]: 1B0 stands before 1F0, whose result it needs\n"
        "    2 | 1B0,1F0 # x\n"
        "      | ^^^\n"
        f"  = {file}:2: 1F0\n"
        "  = help: move 1F0 to its left\n"
        f"{file}:2:5: error[AP130]: expected an action such as 2F0, found '1F0 # x'\n"
        "    2 | 1B0,1F0 # x\n"
        "      |     ^^^^^^^\n"
        "  = help: remove the comment: a table has none\n"
    )
    assert [path.name for path in tmp_path.iterdir()] == ["t.csv"]


def test_what_torch_would_accept_is_said(tmp_path: Path) -> None:
    outcome = run(tmp_path, "0F0,0B0,0F1,0B1\n1F0,1F1,1B0,1B1\n")
    assert outcome.code == 3
    assert "deadlock: 0B0 -> 1B0 -> 1F1 -> 0F1 -> 0B0" in outcome.stderr
    assert (
        "  = the validator of torch 2.11 to 2.13 accepts this table: it looks at each row by itself; "
        "a later pass stops, without naming a device or a cell\n"
    ) in outcome.stderr


@pytest.mark.parametrize(
    ("arguments", "code"), [(["--stages", "3"], "AP132"), (["--microbatches", "3"], "AP133"), (["--stages", "2"], "")]
)
def test_sizes_can_be_asserted(arguments: list[str], code: str, tmp_path: Path) -> None:
    outcome = run(tmp_path, TABLE, *arguments)
    assert outcome.code == (3 if code else 0)
    assert code in outcome.stderr


def test_nothing_is_overwritten_unasked(tmp_path: Path) -> None:
    (tmp_path / "mine.csv").write_text("precious")
    outcome = run(tmp_path, TABLE)
    assert outcome.code == 2
    assert outcome.stderr == f"error: {tmp_path}/mine.csv exists\n  help: choose another name, or add --force\n"
    assert (tmp_path / "mine.csv").read_text() == "precious"
    assert not (tmp_path / "mine.yaml").exists()
    assert run(tmp_path, TABLE, "--force").code == 0
    assert (tmp_path / "mine.csv").read_text() == TABLE
    assert "mine.yaml and " in run(tmp_path, TABLE).stderr


def test_a_table_can_be_imported_over_itself(tmp_path: Path) -> None:
    (tmp_path / "mine.csv").write_text("0F0,,0B0\r\n")
    outcome = invoke(
        *("import", str(tmp_path / "mine.csv"), "--from", "torch-csv", "--out", str(tmp_path / "mine.yaml"), "--force")
    )
    assert outcome.code == 0
    assert (tmp_path / "mine.csv").read_text() == "0F0,0B0\n"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--from", "torch-csv", "--out", "mine.yml"], "--out mine.yml: expected the name of a schedule, NAME.yaml"),
        (["--from", "torch-csv", "--out", "mine.yaml", "--place", "v"], "--place is for zero-bubble"),
        (["--from", "jaxpp", "--out", "mine.yaml"], "Invalid value for '--from'"),
        (["--out", "mine.yaml"], "Missing option '--from'"),
        (["--from", "torch-csv"], "Missing option '--out'"),
    ],
)
def test_wrong_options_are_usage_errors(arguments: list[str], message: str, tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text(TABLE)
    outcome = invoke("import", str(tmp_path / "t.csv"), *arguments)
    assert (outcome.code, outcome.stdout) == (2, "")
    assert message in outcome.stderr


def test_a_missing_file_is_an_invalid_table(tmp_path: Path) -> None:
    outcome = invoke("import", str(tmp_path / "no.csv"), "--from", "torch-csv", "--out", str(tmp_path / "mine.yaml"))
    assert outcome.code == 3
    assert outcome.stderr.startswith(f"{tmp_path}/no.csv:1:1: error[AP100]: cannot be read: No such file")


def test_a_folder_that_cannot_be_written_is_a_usage_error(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text(TABLE)
    out = tmp_path / "no" / "mine.yaml"
    outcome = invoke("import", str(tmp_path / "t.csv"), "--from", "torch-csv", "--out", str(out))
    assert outcome.code == 2
    assert "error: cannot write " in outcome.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["t.csv"]

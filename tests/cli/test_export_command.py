"""`asyncpipe export`: the text of other programs, and refusals that list everything."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from asyncpipe.schedule import library
from tests.command_line import Outcome, invoke

FILE = """\
asyncpipe: 1
name: pair
stages: 2
devices: 2
streams:
  compute: {runs: [F, B, U], per: device, table: 1f1b}
rules:
  - F[0, m] after U[*, g-1]
update: {every: 3}
"""
TABLE = "0F0,0F1,0B0,0F2,0B1,0B2\n1F0,1B0,1F1,1B1,1F2,1B2\n"
LOST = """\
error[AP140]: as a table for torch async-lu would lose 3 things
{line}  = {file}:{streams}: staleness 2 1: of a table it is 0 everywhere
  = {file}:{streams}: updates that are not at a flush: 0F1 does not wait for 0U0
  = {file}:{streams}: device 0 has 3 streams: forward, backward[0], backward[1]
  = help: --lossy exports the order of one update without them
"""


@pytest.fixture
def file(tmp_path: Path) -> str:
    path = tmp_path / "pair.yaml"
    path.write_text(FILE)
    return str(path)


def export(*arguments: str) -> Outcome:
    return invoke("export", *arguments)


def test_one_update_goes_out_as_a_table(file: str) -> None:
    outcome = export(file, "--to", "torch-csv")
    assert (outcome.code, outcome.stdout, outcome.stderr) == (0, TABLE, "")


def test_the_number_of_microbatches_can_be_chosen(file: str) -> None:
    outcome = export(file, "--to", "torch-csv", "--microbatches", "2", "-o", "update.every=2")
    assert outcome.stdout == "0F0,0F1,0B0,0B1\n1F0,1B0,1F1,1B1\n"


def test_aligned_columns_are_points_in_time(file: str) -> None:
    outcome = export(file, "--to", "torch-csv", "--aligned", "--costs", "F=1,B=1")
    assert outcome.stdout == "0F0,0F1,,0B0,0F2,0B1,,0B2\n,1F0,1B0,1F1,1B1,1F2,1B2,\n"


def test_a_refusal_lists_all_that_would_be_lost() -> None:
    outcome = export("async-lu", "--to", "torch-csv", "--stages", "2")
    assert (outcome.code, outcome.stdout) == (3, "")
    text = str(library()["async-lu"])
    line = next(i for i, row in enumerate(Path(text).read_text().splitlines(), 1) if row.startswith("streams:"))
    excerpt = f"{line:>5} | streams:\n      | ^^^^^^^\n"
    assert outcome.stderr == f"{text}:{line}:1: " + LOST.format(file=text, streams=line, line=excerpt)


def test_lossy_exports_what_there_is_and_says_what_is_lost() -> None:
    outcome = export("async-lu", "--to", "torch-csv", "--stages", "2", "--lossy")
    assert (outcome.code, outcome.stdout) == (0, "0F0,1F0,1B0,0B0\n")
    assert "note[AP140]: as a table for torch async-lu has lost 3 things" in outcome.stderr


def test_json_holds_the_text_and_the_losses(file: str) -> None:
    document = json.loads(export(file, "--to", "torch-csv", "--json").stdout)
    assert document == {"schema": "asyncpipe.export/1", "to": "torch-csv", "lost": [], "text": TABLE}
    lossy = json.loads(export("async-lu", "--to", "torch-csv", "--lossy", "--json").stdout)
    assert len(lossy["lost"]) == 3


def test_the_text_goes_to_a_file(file: str, tmp_path: Path) -> None:
    out = tmp_path / "pair.csv"
    outcome = export(file, "--to", "torch-csv", "--out", str(out))
    assert (outcome.code, outcome.stdout, out.read_text()) == (0, "", TABLE)
    again = export(file, "--to", "dot", "--out", str(out))
    assert (again.code, out.read_text()) == (2, TABLE)
    assert "exists" in again.stderr
    forced = export(file, "--to", "dot", "--out", str(out), "--force", "--json")
    assert out.read_text().startswith("digraph ")
    assert json.loads(forced.stdout)["out"] == str(out)


def test_a_file_that_cannot_be_written_is_a_usage_error(file: str, tmp_path: Path) -> None:
    outcome = export(file, "--to", "torch-csv", "--out", str(tmp_path / "no" / "pair.csv"))
    assert outcome.code == 2
    assert outcome.stderr.startswith(f"error: cannot write {tmp_path}/no/pair.csv: ")


def test_json_is_the_table_of_level_l1(file: str) -> None:
    document = json.loads(export(file, "--to", "json", "--microbatches", "3").stdout)
    assert list(document) == [
        *("schema", "schedule", "stages", "every", "start", "step", "iterations", "microbatches", "slots", "streams")
    ]
    assert (document["schema"], document["microbatches"]) == ("asyncpipe.table/1", 3)
    first = next(stream for stream in document["streams"] if stream["device"] == 0)
    cells = [cell["action"] for part in ("warmup", "body", "cooldown") for cell in first[part]]
    assert cells == [*TABLE.splitlines()[0].split(","), "0U0"]


def test_json_of_an_endless_schedule_has_a_relative_body(file: str) -> None:
    document = json.loads(export(file, "--to", "json").stdout)
    assert document["microbatches"] is None
    bodies = [cell["action"] for stream in document["streams"] for cell in stream["body"]]
    assert bodies
    assert all(re.fullmatch(r"\d+(F|B|U|SEND_F|SEND_B)\[[mg]([+-]\d+)?\]", action) for action in bodies)


def test_json_says_what_the_text_of_l1_says(file: str) -> None:
    document = json.loads(export(file, "--to", "json", "--microbatches", "4").stdout)
    shown = invoke("show", file, "--level", "L1", "--microbatches", "4").stdout
    for stream in document["streams"]:
        for part in ("warmup", "cooldown"):
            cells = (f"{c['action']}@{c['reads']}" if c["reads"] is not None else c["action"] for c in stream[part])
            assert f"  {part}{''.join(f' {cell}' for cell in cells)}\n" in shown


def test_dot_is_a_graph_of_all_edges(file: str) -> None:
    text = export(file, "--to", "dot", "--microbatches", "4").stdout
    assert text.startswith('digraph "pair" {\n')
    assert text.endswith("}\n")
    assert text.count("{") == text.count("}")
    named = set(re.findall(r'"(\d+[FBU]\d+)"', text))
    assert named == {f"{s}{op}{m}" for s in range(2) for op in "FB" for m in range(4)} | {
        f"{s}U{g}" for s in range(2) for g in range(2)
    }
    for edge in ('"0F1" -> "1F1";', '"1B2" -> "0B2";', '"1F0" -> "1B0";', '"0B2" -> "0U0";'):
        assert f"  {edge}\n" in text
    rule = '  "1U0" -> "0F3" [color=red, label="F[0, m] after U[*, g - 1]"];\n'
    assert rule in text
    assert "SEND" not in text


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--to", "dot", "--lossy"], "--lossy is for torch-csv, not for dot"),
        (["--to", "json", "--aligned"], "--aligned is for torch-csv, not for json"),
        (["--to", "svg"], "Invalid value for '--to'"),
        ([], "Missing option '--to'"),
        (["--to", "dot", "--microbatches", "20000"], "20,000 microbatches are more than 10,000"),
    ],
)
def test_wrong_options_are_usage_errors(file: str, arguments: list[str], message: str) -> None:
    outcome = export(file, *arguments)
    assert (outcome.code, outcome.stdout) == (2, "")
    assert message in outcome.stderr


def test_an_invalid_schedule_is_explained(tmp_path: Path) -> None:
    path = tmp_path / "bad.yaml"
    path.write_text(FILE.replace("update: {every: 3}", "update: {every: 0}"))
    outcome = export(str(path), "--to", "torch-csv")
    assert outcome.code == 3
    assert outcome.stderr.startswith(f"{path}:9:")


def test_actions_that_cost_nothing_cannot_be_aligned(file: str) -> None:
    outcome = export(file, "--to", "torch-csv", "--aligned", "--costs", "F=0,B=1")
    assert outcome.code == 3
    assert "error[AP142]: 0F0 and 0F1 start at the same time on device 0: 0F0 costs nothing" in outcome.stderr


@pytest.mark.parametrize("name", library())
def test_every_schedule_of_the_library_goes_out_or_says_why_not(name: str) -> None:
    for form in ("json", "dot"):
        assert export(name, "--to", form).code == 0
    strict, lossy = export(name, "--to", "torch-csv"), export(name, "--to", "torch-csv", "--lossy")
    assert strict.code in (0, 3)
    if strict.code == 0:
        assert (strict.stdout, lossy.stderr) == (lossy.stdout, "")
    else:
        assert re.search(r"error\[AP14[01]\]: ", strict.stderr)
    assert lossy.code == 0 or "error[AP141]: " in lossy.stderr

"""`asyncpipe new`: the files that it writes pass `check`, work in an editor, and replace nothing by accident."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from asyncpipe.cli.new import Files, mover
from asyncpipe.cli.schema import schedule_schema
from asyncpipe.schedule import library, load
from tests.command_line import Outcome, invoke
from tests.draft07 import findings, plain_document

MAIN = "asyncpipe: 1\nstreams: {main: {runs: [F, B, U]}}\n"
NEXT = """\
begun from async-lu; editors complete its keys with asyncpipe-schema.json
next: edit it, then
  asyncpipe check mine.yaml
  asyncpipe show mine.yaml
"""


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_schedule_and_schema_are_written_and_the_next_steps_told(folder: Path) -> None:
    assert invoke("new", "mine") == Outcome(0, "mine.yaml\n", NEXT)
    assert sorted(path.name for path in folder.iterdir()) == ["asyncpipe-schema.json", "mine.yaml"]
    assert (folder / "mine.yaml").read_text().splitlines()[:5] == [
        "# yaml-language-server: $schema=asyncpipe-schema.json",
        f"# Begun from async-lu: {load('async-lu').description}",
        "asyncpipe: 1",
        "name: mine",
        "description: Say here in one line what this schedule does.",
    ]
    assert json.loads((folder / "asyncpipe-schema.json").read_text()) == schedule_schema()


@pytest.mark.parametrize("template", library())
def test_each_template_passes_check_and_the_schema_that_it_names(template: str, folder: Path) -> None:
    assert invoke("new", "mine", "--from", template).code == 0
    text = (folder / "mine.yaml").read_text()
    schema = folder / text.splitlines()[0].partition("$schema=")[2]
    assert findings(json.loads(schema.read_text()), plain_document(text)) == []
    checked = invoke("check", "mine.yaml")
    assert (checked.code, checked.stderr) == (0, invoke("check", template).stderr)


def test_a_name_of_the_library_is_its_own_pattern(folder: Path) -> None:
    assert invoke("new", "gpipe").stderr.startswith("begun from gpipe; ")
    assert load("gpipe.yaml").update == load("gpipe").update != load("async-lu").update


def test_json_names_the_files(folder: Path) -> None:
    outcome = invoke("new", "mine", "--from", "sgd", "--out", "a/b", "--json")
    assert (outcome.code, outcome.stderr) == (0, "")
    assert json.loads(outcome.stdout) == {
        "schema": "asyncpipe.new/1",
        "file": "a/b/mine.yaml",
        "template": "sgd",
        "schema_file": "a/b/asyncpipe-schema.json",
        "copied": [],
    }
    assert load(folder / "a" / "b" / "mine.yaml").streams == load("sgd").streams


def test_nothing_is_overwritten_without_force(folder: Path) -> None:
    (folder / "mine.yaml").write_text("precious")
    refused = Outcome(
        2, "", "error: mine.yaml is already there\n  help: choose another name, or --force to overwrite it\n"
    )
    assert invoke("new", "mine") == refused
    assert [path.name for path in folder.iterdir()] == ["mine.yaml"]
    assert (folder / "mine.yaml").read_text() == "precious"
    assert invoke("new", "mine", "--force").code == 0
    assert invoke("new", "mine") == refused
    assert load(folder / "mine.yaml").name == "mine"


def test_schema_of_an_older_version_is_replaced_and_a_foreign_file_is_not(folder: Path) -> None:
    assert invoke("new", "one").code == 0
    schema = folder / "asyncpipe-schema.json"
    new = schema.read_text()
    schema.write_text(new.replace("additionalProperties", "older"))
    assert invoke("new", "two").code == 0
    assert schema.read_text() == new
    schema.write_text("{}")
    assert invoke("new", "three").stderr.startswith("error: asyncpipe-schema.json is already there\n")
    assert not (folder / "three.yaml").exists()
    assert invoke("new", "three", "--force").code == 0


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("mine.yaml", "try `asyncpipe new mine`; the file becomes mine.yaml"),
        ("a/b", "try `asyncpipe new b --out a`; the file becomes b.yaml"),
        ("two words", "try `asyncpipe new two-words`; the file becomes two-words.yaml"),
        ("..", "as in my-schedule"),
        ("", "as in my-schedule"),
        ("é", "as in my-schedule"),
    ],
)
def test_other_names_are_usage_errors(name: str, hint: str, folder: Path) -> None:
    message = f"error: expected a name of letters, digits, - and _, found {name!r}\n  help: {hint}\n"
    assert invoke("new", name) == Outcome(2, "", message)
    assert [*folder.iterdir()] == []


@pytest.mark.parametrize("name", ["1", "true", "A_b-2"])
def test_name_of_letters_digits_and_signs_is_a_text(name: str, folder: Path) -> None:
    assert invoke("new", name).code == 0
    assert load(folder / f"{name}.yaml").name == name
    assert invoke("check", f"{name}.yaml").code == 0


def test_unknown_template_gets_a_suggestion(folder: Path) -> None:
    outcome = invoke("new", "mine", "--from", "async_lu")
    assert outcome == Outcome(
        2,
        "",
        "error: no schedule named 'async_lu' in the library, and no such file\n  help: did you mean 'async-lu'?\n",
    )
    assert invoke("new", "mine", "--from", "other.yaml").code == 3
    assert [*folder.iterdir()] == []


def test_template_that_does_not_compile_is_told_and_not_copied(folder: Path) -> None:
    (folder / "bad.yaml").write_text(MAIN + "in_fligth: 3\n")
    (folder / "ahead.yaml").write_text("asyncpipe: 1\nstreams: {a: {runs: [F]}, b: {runs: [B, U]}}\n")
    outcome = invoke("new", "mine", "--from", "bad.yaml")
    assert (outcome.code, outcome.stdout) == (3, "")
    assert outcome.stderr.startswith("bad.yaml:3:1: error[AP104]: unknown key 'in_fligth' in a schedule\n")
    assert invoke("new", "mine", "--from", "ahead.yaml").stderr.startswith("ahead.yaml:2:1: error[AP501]: ")
    assert not (folder / "mine.yaml").exists()


def test_begun_from_a_file_of_ones_own(folder: Path) -> None:
    (folder / "first.yaml").write_text("# mine\n" + MAIN)
    assert invoke("new", "second", "--from", "first.yaml").code == 0
    assert (folder / "second.yaml").read_text() == (
        "# yaml-language-server: $schema=asyncpipe-schema.json\n# Begun from first.yaml\n# mine\n"
        "asyncpipe: 1\nname: second\ndescription: Say here in one line what this schedule does.\n"
        "streams: {main: {runs: [F, B, U]}}\n"
    )
    assert invoke("new", "third", "--from", "second.yaml", "--out", "below").code == 0
    third = (folder / "below" / "third.yaml").read_text()
    assert third.count("yaml-language-server") == 1
    assert third.splitlines()[1:3] == ["# Begun from ../second.yaml", "# Begun from first.yaml"]


def test_files_that_a_template_names_are_found_from_the_new_place(folder: Path) -> None:
    (folder / "jobs").mkdir()
    (folder / "jobs" / "small.yaml").write_text("model: mlp\ndata: digits\noptimizer: {use: sgd, lr: 0.1}\n")
    (folder / "model.py").write_text("")
    (folder / "first.yaml").write_text(MAIN + "job: jobs/small.yaml\n")
    (folder / "inline.yaml").write_text(
        MAIN + "job: {model: './model.py:build', data: digits, optimizer: {use: sgd, lr: 0.1}}\n"
    )
    assert invoke("new", "same", "--from", "first.yaml").code == 0
    assert "job: jobs/small.yaml\n" in (folder / "same.yaml").read_text()
    assert invoke("new", "second", "--from", "first.yaml", "--out", "below").code == 0
    assert "job: ../jobs/small.yaml\n" in (folder / "below" / "second.yaml").read_text()
    assert invoke("check", "below/second.yaml").code == 0
    assert invoke("new", "beside", "--from", "first.yaml", "--out", "jobs").code == 0
    assert "job: small.yaml\n" in (folder / "jobs" / "beside.yaml").read_text()
    assert invoke("check", "jobs/beside.yaml").code == 0
    assert invoke("new", "coded", "--from", "inline.yaml", "--out", "below").code == 0
    assert 'model: "../model.py:build"' in (folder / "below" / "coded.yaml").read_text()


def test_files_of_the_library_become_names_or_copies(folder: Path) -> None:
    """An installation may move, so that no path into it is written."""
    files = Files()
    moved = mover(library()["sgd"].parent, folder, files)
    assert [moved(value) for value in ("sgd.yaml", "jobs/digits.yaml", "sgd", "other.csv", "0.5")] == [
        *("sgd", "digits"),
        *(None, None, None),
    ]
    assert (files.texts, files.copied) == ({}, [])
    assert moved("../pyproject.toml") == "pyproject.toml"
    assert files.copied == [folder / "pyproject.toml"]
    assert "asyncpipe" in files.texts[folder / "pyproject.toml"]


def test_very_long_text_is_no_file(folder: Path) -> None:
    assert mover(folder, folder / "below", Files())("s // " * 9999) is None


def test_folder_that_cannot_be_written_to_is_a_usage_error(folder: Path) -> None:
    (folder / "file").write_text("")
    outcome = invoke("new", "mine", "--out", "file")
    assert (outcome.code, outcome.stdout) == (2, "")
    assert "Directory 'file' is a file" in outcome.stderr
    outcome = invoke("new", "mine", "--out", "file/below")
    assert outcome == Outcome(
        2,
        "",
        "error: cannot write file/below/asyncpipe-schema.json: Not a directory\n"
        "  help: name a folder that you can write to\n",
    )

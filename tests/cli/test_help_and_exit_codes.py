"""Help, suggestions, the list of schedules, and what exceptions become."""

from __future__ import annotations

import errno
import json
import sys
from pathlib import Path

import pytest

import asyncpipe
from asyncpipe.cli.failures import exit_code_of
from asyncpipe.errors import (
    CheckpointError,
    Diagnostic,
    HangError,
    InternalError,
    MachineError,
    NumericalError,
    Position,
    ScheduleError,
    UsageError,
    UserCodeError,
)
from asyncpipe.schedule import library, load
from asyncpipe.schedule.job import job_library
from tests.command_line import Outcome, invoke

COMMANDS = ["run", "check", "show", "simulate", "schedules", "new", "diff", "explain", "import", "export", "schema"]
GROUPS = ["tools"]


def test_help_lists_the_commands() -> None:
    outcome = invoke("--help")
    assert (outcome.code, outcome.stderr) == (0, "")
    assert outcome.stdout.startswith("Usage: asyncpipe [OPTIONS] COMMAND [ARGS]...\n")
    listed = outcome.stdout.partition("Commands:\n")[2]
    assert [line.split()[0] for line in listed.splitlines()] == [*COMMANDS, *GROUPS]
    assert invoke("-h") == outcome


@pytest.mark.parametrize("command", COMMANDS)
def test_each_command_has_help(command: str) -> None:
    outcome = invoke(command, "--help")
    assert (outcome.code, outcome.stderr) == (0, "")
    assert outcome.stdout.startswith(f"Usage: asyncpipe {command} ")
    assert "--json" in outcome.stdout
    assert invoke(command, "-h") == outcome


def test_no_command_shows_the_help_as_a_usage_error() -> None:
    outcome = invoke()
    assert (outcome.code, outcome.stdout) == (2, "")
    assert outcome.stderr == invoke("--help").stdout


def test_version_is_told() -> None:
    assert invoke("--version") == Outcome(0, f"asyncpipe {asyncpipe.__version__}\n", "")


@pytest.mark.parametrize(
    ("typed", "hint"),
    [
        ("chek", "did you mean 'check'?"),
        ("shows", "did you mean 'show'?"),
        ("schedule", "did you mean 'schedules'?"),
        ("train", f"expected one of: {', '.join([*COMMANDS, *GROUPS])}"),
    ],
)
def test_unknown_command_gets_a_suggestion(typed: str, hint: str) -> None:
    outcome = invoke(typed, "--json")
    assert (outcome.code, outcome.stdout) == (2, "")
    assert outcome.stderr.endswith(f"Error: no command {typed!r}; {hint}\n")


def test_schedules_lists_the_library() -> None:
    outcome = invoke("schedules")
    assert (outcome.code, outcome.stderr) == (0, "")
    *rows, empty, jobs = outcome.stdout.splitlines()
    assert [row.split()[0] for row in rows] == list(library())
    assert (empty, jobs) == ("", f"jobs: {', '.join(job_library())}")
    for name, row in zip(library(), rows, strict=True):
        assert row.endswith(f"  {load(name).description}")


def test_schedules_as_json_names_files_that_exist() -> None:
    document = json.loads(invoke("schedules", "--json").stdout)
    assert list(document) == ["schema", "schedules", "jobs"]
    assert document["schema"] == "asyncpipe.schedules/1"
    assert [list(row) for row in document["schedules"]] == [["name", "description", "file"]] * len(library())
    assert [row["name"] for row in document["schedules"]] == list(library())
    assert [list(row) for row in document["jobs"]] == [["name", "file"]] * len(job_library())
    assert all(Path(row["file"]).is_file() for row in document["schedules"] + document["jobs"])


@pytest.mark.parametrize("job", job_library())
def test_jobs_of_the_library_are_valid(job: str) -> None:
    assert invoke("check", "async-lu", "--job", job).code == 0


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (UsageError, 2),
        (MachineError, 4),
        (UserCodeError, 5),
        (NumericalError, 6),
        (HangError, 7),
        (CheckpointError, 9),
    ],
)
def test_error_becomes_its_exit_code(error: type[UsageError], code: int, capsys: pytest.CaptureFixture[str]) -> None:
    def command() -> None:
        raise error("expected this, found that", "do so")

    assert exit_code_of(command) == code
    assert capsys.readouterr() == ("", "error: expected this, found that\n  help: do so\n")


def test_schedule_error_shows_every_finding(capsys: pytest.CaptureFixture[str]) -> None:
    def command() -> None:
        here = Position("nowhere.yaml", 3, 4)
        raise ScheduleError([Diagnostic("AP999", "second", here, "do so"), Diagnostic("AP998", "no place")])

    assert exit_code_of(command) == 3
    text = "nowhere.yaml:3:4: error[AP999]: second\n  = help: do so\nerror[AP998]: no place\n"
    assert capsys.readouterr() == ("", text)


def test_code_of_the_author_that_fails_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    def command() -> None:
        try:
            json.loads("{")
        except ValueError as error:
            raise UserCodeError("the loss raised ValueError") from error

    assert exit_code_of(command) == 5
    err = capsys.readouterr().err
    assert err.startswith("error: the loss raised ValueError\n")
    assert f"  in {__file__}:" in err


@pytest.mark.parametrize("error", [KeyError("k"), InternalError("two records")])
def test_bug_is_told_as_one_with_its_place(error: Exception, capsys: pytest.CaptureFixture[str]) -> None:
    def command() -> None:
        raise error

    assert exit_code_of(command) == 1
    first, second = capsys.readouterr().err.splitlines()
    assert first.startswith(f"error: a bug in asyncpipe {asyncpipe.__version__}: ")
    assert second.startswith(f"  at {__file__}:")
    assert second.endswith("; ASYNCPIPE_DEBUG=1 shows the whole traceback")


def test_traceback_of_a_bug_is_shown_on_request(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def command() -> None:
        raise KeyError("k")

    monkeypatch.setenv("ASYNCPIPE_DEBUG", "1")
    assert exit_code_of(command) == 1
    assert "Traceback (most recent call last)" in capsys.readouterr().err


def test_code_of_the_author_that_exits_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    def command() -> None:
        sys.exit("enough")

    assert exit_code_of(command) == 5
    assert capsys.readouterr() == ("", "error: code of the job ended the program: SystemExit('enough')\n")


@pytest.mark.parametrize(("file", "where"), [(None, ""), ("trials.jsonl", "trials.jsonl: ")])
def test_a_full_disk_is_no_bug(file: str | None, where: str, capsys: pytest.CaptureFixture[str]) -> None:
    def command() -> None:
        raise OSError(errno.ENOSPC, "No space left on device", file)

    assert exit_code_of(command) == 4
    text = f"error: {where}cannot be written: No space left on device\n  help: make room, or write to another disk\n"
    assert capsys.readouterr() == ("", text)


def test_interrupt_ends_with_130(capsys: pytest.CaptureFixture[str]) -> None:
    def command() -> None:
        raise KeyboardInterrupt

    assert exit_code_of(command) == 130
    assert capsys.readouterr() == ("", "interrupted\n")

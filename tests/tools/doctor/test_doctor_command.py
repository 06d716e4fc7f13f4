"""`asyncpipe tools doctor` on this machine: a real report, its exit codes and its errors."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from asyncpipe.tools import doctor
from tests.command_line import invoke
from tests.tools.doctor.machines import cpu_machine
from tests.tools.doctor.test_probes import CPU

SUBJECTS = ["python", "libraries", "torch", "nvml", "cores", "op threads", "memory", "disk", "asyncpipe", "data"]


def test_this_machine_is_examined(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    outcome = invoke("tools", "doctor", "--json")
    document = json.loads(outcome.stdout)
    assert (outcome.stderr, document["schema"]) == ("", "asyncpipe.doctor/1")
    assert outcome.code == (0 if document["ok"] else 4)
    assert set(SUBJECTS) <= {finding["subject"] for finding in document["findings"]}
    messages = {finding["subject"]: finding["message"] for finding in document["findings"]}
    assert messages["python"].startswith(".".join(map(str, sys.version_info[:3])))
    assert messages["data"].startswith("digits")
    assert messages["disk"].startswith(f"{tmp_path}, ")
    assert document["versions"]["torch"] is not None


def test_the_text_is_that_of_the_probes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "gather_environment", lambda data: cpu_machine())
    outcome = invoke("tools", "doctor")
    assert (outcome.code, outcome.stdout, outcome.stderr) == (0, CPU + "\n", "")


@pytest.mark.parametrize("arguments", [[], ["--json"]])
def test_a_failure_is_exit_code_4_after_the_whole_report(monkeypatch: pytest.MonkeyPatch, arguments: list[str]) -> None:
    monkeypatch.setattr(doctor, "gather_environment", lambda data: cpu_machine(python=(3, 10, 0)))
    outcome = invoke("tools", "doctor", *arguments)
    assert (outcome.code, outcome.stderr) == (4, "")
    assert "make an environment with a newer Python" in outcome.stdout


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("cifar10", "error: --data 'cifar10': expected NAME=FOLDER\n  help: as in --data cifar10=~/data\n"),
        (
            "cifar=x",
            "error: --data 'cifar=x': no data set with a folder is called 'cifar'\n  help: did you mean 'cifar10'?\n",
        ),
    ],
)
def test_a_wrong_option_says_what_is_right(given: str, message: str) -> None:
    outcome = invoke("tools", "doctor", "--data", given)
    assert (outcome.code, outcome.stdout, outcome.stderr) == (2, "", message)


def test_a_data_set_that_was_asked_for_is_found_or_missed(tmp_path: Path) -> None:
    (tmp_path / "train").mkdir()
    outcome = invoke("tools", "doctor", "--data", f"imagefolder={tmp_path}", "--data", f"imdb={tmp_path}/none")
    lines = [line for line in outcome.stdout.splitlines() if line[6:10] == "data"]
    assert [line[:4].strip() for line in lines] == ["ok", "warn"]
    assert "imagefolder" in lines[0]
    assert lines[1].endswith(f"data imdb needs train: {tmp_path}/none is no folder")

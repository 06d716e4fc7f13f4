"""`check` and `simulate` on a model that is the author's code: refused, passed over, or run where --allow lets it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.command_line import invoke

CODE = """
import torch
from torch import nn


def net(width):
    return nn.Sequential(*(nn.Linear(width, width) for _ in range(6)))


def data():
    x, y = torch.zeros(40, 8), torch.zeros(40, dtype=torch.int64)
    return (x, y), (x, y)


def broken():
    return nn.Sequential(nn.Linear(9, 8))
"""
JOB = "model: {use: './own.py:net', width: 8}\ndata: ./own.py:data\noptimizer: {use: sgd, lr: 0.1}\ntrain: {batch: 4}\n"


@pytest.fixture
def job(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    (tmp_path / "jobs").mkdir()
    (tmp_path / "jobs" / "own.py").write_text(CODE)
    (tmp_path / "jobs" / "job.yaml").write_text(JOB)
    monkeypatch.chdir(tmp_path)
    return "jobs/job.yaml"


def test_layers_of_allowed_code_are_known(job: str) -> None:
    outcome = invoke("check", "gpipe", "--job", job, "--stages", "3", "--allow", "jobs/own.py", "--json")
    document = json.loads(outcome.stdout)
    assert (outcome.code, document["not_checked"]) == (0, ["capture on a GPU"])
    (instance,) = document["instances"]
    layer = 4 * (8 * 8 + 8)
    assert [device["parameters"] for device in instance["memory"]["devices"]] == [2 * layer] * 3
    # Two layers of four samples, eight numbers each, for each microbatch in flight.
    assert instance["memory"]["devices"][0]["activations"] == instance["in_flight"][0] * 2 * 4 * 8 * 4


def test_code_is_passed_over_without_allow(job: str) -> None:
    outcome = invoke("check", "gpipe", "--job", job, "--stages", "3")
    assert outcome.code == 0
    assert "./own.py:net (its code is not run); ./own.py:data (its code is not run); memory in bytes" in outcome.stdout


def test_all_code_that_has_to_run_must_be_allowed(job: str) -> None:
    outcome = invoke("check", "gpipe", "--job", job, "--allow", "other")
    assert (outcome.code, outcome.stdout) == (2, "")
    assert outcome.stderr == (
        "error: jobs/job.yaml:2:7: ./own.py:data runs code of its author\n"
        "  help: if you trust it, add --allow jobs/own.py\n"
    )


def test_more_stages_than_the_layers_of_allowed_code_are_refused(job: str) -> None:
    outcome = invoke("check", "gpipe", "--job", job, "--stages", "7", "--allow", "jobs/own.py")
    assert (outcome.code, "the model has only 6 layers" in outcome.stderr) == (2, True)


def test_allowed_code_that_raises_is_the_authors(job: str) -> None:
    broken = "job.model=./jobs/own.py:broken"
    outcome = invoke("simulate", "gpipe", "--job", job, "--allow", "jobs/own.py", "-o", broken)
    assert (outcome.code, "layer 0 raised RuntimeError" in outcome.stderr) == (5, True)


def test_links_know_the_bytes_of_allowed_code(job: str) -> None:
    words = ["simulate", "gpipe", "--job", job, "--stages", "3", "--link", "bandwidth=64", "--json"]
    assert invoke(*words).code == 2
    slow = json.loads(invoke(*words, "--allow", "jobs/own.py").stdout)
    fast = json.loads(invoke(*words[:-2], "bandwidth=6400", "--json", "--allow", "jobs/own.py").stdout)
    assert slow["period"] > fast["period"]


def test_code_named_by_an_option_is_beside_the_working_directory(job: str) -> None:
    net = "job.model={use: ./jobs/own.py:net, width: 64}"
    outcome = invoke("check", "gpipe", "--job", "digits", "--stages", "2", "--allow", "jobs/own.py", "-o", net)
    assert (outcome.code, "digits" in outcome.stderr) == (5, False)

"""`tools fit` on models as users write them: whole reports, the JSON contract, and that the model stays as it was."""

from __future__ import annotations

import json
import random
import shlex
from contextlib import chdir
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from asyncpipe.errors import Report
from asyncpipe.schedule import load
from asyncpipe.schedule.job import job_library, read_job
from asyncpipe.tools.fit import Asked, Fit, Subject, fit, read_subject
from asyncpipe.training import Trainer
from tests.command_line import Outcome, invoke
from tests.tools.fit.reports import CASES, FOLDER, said_now

SLOW = (
    "autocast",
    "casts-inside",
    "decides-by-its-data-on-threads",
    "default-job",
    "recomputed",
    "revnet-that-is-inverted",
    "text-without-its-file",
    "writes-into-a-live-parameter",
)
"""Of what each shows another report has most."""


def report_of(*arguments: str) -> Outcome:
    with chdir(FOLDER):
        return invoke("tools", "fit", *arguments, "--allow", "./models.py")


@pytest.mark.parametrize("name", [pytest.param(name, marks=pytest.mark.slow if name in SLOW else ()) for name in CASES])
def test_report_is_as_recorded(name: str) -> None:
    text = CASES[name].read_text("utf-8")
    assert said_now(text) == text


def subject_of(job: str) -> Subject:
    spec = read_job(job, Report())
    assert spec is not None
    return read_subject(spec, ())


def fit_of(job: str, asked: Asked) -> Fit:
    return fit(subject_of(job), asked)


@pytest.mark.slow
@pytest.mark.parametrize("job", job_library())
def test_every_job_of_the_library_trains(job: str) -> None:
    found = fit_of(job, Asked(load("async-lu")))
    assert [finding for finding in found.findings if finding.severity == "fail"] == []
    assert found.exit_code == 0
    assert found.examined.proposals


def test_what_a_model_prints_is_no_part_of_the_document() -> None:
    outcome = report_of("./models.py:Talking", "--input", "4x8", "--json")
    assert json.loads(outcome.stdout)["schema"] == "asyncpipe.fit/1"
    assert set(outcome.stderr.splitlines()) == {"forward of 4", "forward of 2"}


@pytest.mark.parametrize(
    ("arguments", "what"),
    [
        (["4x8", "--dtype", "float8_e4m3fn"], "4 x 8 of float8_e4m3fn"),
        (["99999999x9999999"], "99999999 x 9999999 of float32"),
    ],
)
def test_a_microbatch_that_torch_cannot_make_is_refused(arguments: list[str], what: str) -> None:
    outcome = report_of("./models.py:deep", "--input", *arguments)
    assert (outcome.code, outcome.stdout) == (2, "")
    assert outcome.stderr.startswith(f"error: --input {what}: torch cannot make it: ")


def test_document_has_what_the_report_says() -> None:
    outcome = report_of("./models.py:gated", "--input", "4x8", "--stages", "2", "--json")
    document = json.loads(outcome.stdout)
    assert (outcome.code, outcome.stderr) == (0, "")
    assert list(document) == [
        "schema",
        "severity",
        "model",
        "schedule",
        "backend",
        "input",
        "costs",
        "loss",
        "layers",
        "stages",
        "proposals",
        "memory",
        "optimizer_state",
        "findings",
        "next",
    ]
    assert (document["schema"], document["severity"], document["backend"]) == ("asyncpipe.fit/1", "warn", "threads")
    assert document["input"]["shape"] == [4, 8]
    assert document["stages"] == [[0, 0], [1, 2]]
    assert [layer["seconds"] for layer in document["layers"]] == [None] * 3
    assert sum(layer["share"] for layer in document["layers"]) == pytest.approx(1)
    (proposal,) = document["proposals"]
    assert (proposal["layers"], proposal["handed_over"]) == ([[0, 0], [1, 2]], [4 * 6 * 4])
    flow = next(finding for finding in document["findings"] if finding["check"] == "control flow")
    lines = (FOLDER / "models.py").read_text("utf-8").splitlines()
    found = [lines[place["line"] - 1].strip() for place in flow["places"]]
    assert found == ["if x.sum() > 0:", "return x / x.abs().max().item()"]


def test_the_command_to_run_next_runs(tmp_path: Path) -> None:
    document = json.loads(report_of("./models.py:named_digits", "--job", "digits", "--stages", "2", "--json").stdout)
    assert [finding["check"] for finding in document["findings"] if finding["severity"] != "ok"] == []
    program, *words = shlex.split(document["next"])
    with chdir(FOLDER):
        outcome = invoke(*words, "--steps", "2", "--backend", "serial", "--out", str(tmp_path / "run"))
    assert (program, outcome.code) == ("asyncpipe", 0)
    assert "serial, 2 stages" in outcome.stdout


def test_measured_costs_are_seconds() -> None:
    outcome = report_of("./models.py:deep", "--input", "4x8", "--costs", "measured", "--json")
    layers = json.loads(outcome.stdout)["layers"]
    assert all(0 < layer["seconds"] < 1 for layer in layers)


@pytest.mark.parametrize("stages", [3, pytest.param(None, marks=pytest.mark.slow)])
def test_stages_are_those_that_a_training_has(stages: int | None) -> None:
    found = fit_of("digits", Asked(load("pipedream"), stages=stages)).examined
    trainer = Trainer(found.subject.model, "pipedream", found.subject.loss, {"use": "sgd", "lr": 0.1}, stages=stages)
    trainer.prepare(found.subject.sample)
    names = [[name for name, _ in part] for part in trainer.cut]
    assert names == [[found.layers.named[i][0] for i in part] for part in found.cut]


def test_model_is_as_it_was() -> None:
    subject = subject_of("digits")
    before = {name: tensor.clone() for name, tensor in subject.model.state_dict().items()}
    generators = torch.get_rng_state(), random.getstate()
    fit(subject, Asked(load("async-lu"), stages=2))
    after = subject.model.state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert all(module.training for module in subject.model.modules())
    assert torch.equal(torch.get_rng_state(), generators[0])
    assert random.getstate() == generators[1]


class Added(nn.Module):
    """Holds a layer that it only adds nothing of."""

    def __init__(self, other: nn.Linear) -> None:
        super().__init__()
        self.other = other

    def forward(self, x: Tensor) -> Tensor:
        return x + 0 * self.other.weight.sum()


def test_parameters_on_the_same_memory_are_refused() -> None:
    shared, other = nn.Linear(64, 10), nn.Linear(64, 10)
    other.weight.data = shared.weight.data
    model = nn.Sequential(nn.Flatten(), shared, Added(other))
    found = fit(replace(subject_of("digits"), model=model), Asked(load("sgd"), stages=1))
    failed = [finding.message for finding in found.findings if finding.severity == "fail"]
    assert failed == ["parameters '1.weight' and '2.other.weight' are two objects on the same memory"]
    assert (found.exit_code, found.examined.memory) == (3, ())

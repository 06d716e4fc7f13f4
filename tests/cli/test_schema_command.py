"""`asyncpipe schema`: what it prints, whole and on one line."""

from __future__ import annotations

import json

import pytest

from asyncpipe.cli.schema import job_schema, schedule_schema
from tests.command_line import invoke


def test_schema_of_schedules_is_printed_by_default() -> None:
    outcome = invoke("schema")
    assert (outcome.code, outcome.stderr) == (0, "")
    assert json.loads(outcome.stdout) == schedule_schema()
    assert outcome.stdout == invoke("schema", "schedule").stdout


def test_schema_of_jobs_is_printed() -> None:
    outcome = invoke("schema", "job")
    assert (outcome.code, outcome.stderr) == (0, "")
    assert json.loads(outcome.stdout) == job_schema()


@pytest.mark.parametrize("format", ["schedule", "job"])
def test_text_has_a_line_for_each_key_and_json_is_one_line(format: str) -> None:
    text, line = invoke("schema", format).stdout, invoke("schema", format, "--json").stdout
    assert len(text.splitlines()) > 100
    assert len(line.splitlines()) == 1
    assert json.loads(text) == json.loads(line)


def test_unknown_format_is_a_usage_error() -> None:
    outcome = invoke("schema", "jobs")
    assert (outcome.code, outcome.stdout) == (2, "")
    assert "'jobs' is not one of 'schedule', 'job'" in outcome.stderr


def test_components_of_a_job_have_the_names_of_the_built_ins() -> None:
    properties = job_schema()["properties"]
    names = {part: properties[part]["anyOf"][0]["enum"] for part in ("model", "data", "loss", "optimizer")}
    assert {"convnet", "mlp"} <= set(names["model"])
    assert "digits" in names["data"]
    assert "cross_entropy" in names["loss"]
    assert "sgd" in names["optimizer"]
    (options,) = [choice["properties"] for choice in properties["optimizer"]["anyOf"] if "properties" in choice]
    assert options["weight_decay"]["description"].startswith("of sgd, adam, ")

"""`asyncpipe schema`: the formats as JSON Schema within draft-07, for editors."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import click

from asyncpipe.schedule.json_schema import Schema, described, document, partial

__all__ = ["SCHEMA_FILE", "command", "job_schema", "schedule_schema", "schema_text"]

SCHEMA_FILE = "asyncpipe-schema.json"
"""What the file is called where it lies beside schedules."""
_CODE = {"type": "string", "pattern": r":|^torch\.", "description": "package.module:callable or ./file.py:callable"}


@click.command("schema")
@click.argument("format", metavar="[schedule|job]", type=click.Choice(["schedule", "job"]), default="schedule")
@click.option("--json", "as_json", is_flag=True, help="On one line, as programs read it.")
def command(format: str, as_json: bool) -> None:
    """Print the JSON Schema (draft-07) of the schedule or job format, made from the tables that `check` uses.

    An editor with the YAML language server completes and describes keys with it:

    \b
      asyncpipe schema > asyncpipe-schema.json
      # yaml-language-server: $schema=asyncpipe-schema.json     (first line of a schedule)

    `asyncpipe new` writes both.
    """
    schema = schedule_schema() if format == "schedule" else job_schema()
    click.echo(json.dumps(schema) if as_json else schema_text(schema), nl=as_json)


def schema_text(schema: Schema) -> str:
    """As a file: each key on a line of its own, so that a change can be read."""
    return json.dumps(schema, indent=1, ensure_ascii=False) + "\n"


def schedule_schema() -> Schema:
    """A schedule, or what it changes of the one that it extends: then no other key is required."""
    from asyncpipe.schedule.format import SCHEDULE

    whole = SCHEDULE.schema()
    properties = {**whole["properties"], "job": _job_section(whole["properties"]["job"])}
    schema = {**whole, "properties": properties}
    title = "asyncpipe schedule"
    if "extends" not in properties:
        return document(schema, title)
    return document({"if": {"required": ["extends"]}, "then": partial(schema), "else": schema}, title)


def job_schema() -> Schema:
    return document(_job(), "asyncpipe job")


def _job_section(own: Schema) -> Schema:
    """The job of a schedule: its name, its file, or its keys."""
    return {"anyOf": [{"type": "string"}, _job()], "description": own["description"]}


def _job() -> Schema:
    """The job's table with the names of the built-in models, data sets, losses and optimizers."""
    from asyncpipe.data.catalog import NAMES as DATA
    from asyncpipe.models import NAMES as MODELS
    from asyncpipe.runtime.optimizer_options import OPTIONS
    from asyncpipe.schedule.job import JOB, LOSSES

    schema = JOB.schema()
    parts = {"model": (MODELS, {}), "data": (DATA, {}), "loss": (LOSSES, {}), "optimizer": (tuple(OPTIONS), _options())}
    known = {part: _component(schema["properties"][part], *parts[part]) for part in parts}
    return {**schema, "properties": {**schema["properties"], **known}}


def _component(own: Schema, names: Sequence[str], options: Mapping[str, Schema]) -> Schema:
    """A built-in's name or the author's code, alone or with options."""
    use = {"anyOf": [{"type": "string", "enum": list(names)}, _CODE]}
    mapping = {"type": "object", "properties": {"use": use, **options}, "required": ["use"]}
    return {**own, "anyOf": [*use["anyOf"], mapping]}


def _options() -> dict[str, Schema]:
    """The options of all built-in optimizers; which of them belong to which, `check` tells."""
    from asyncpipe.runtime.optimizer_options import OPTIONS

    auto = {"type": "object", "properties": {"auto": {"type": "number"}}, "required": ["auto"]}
    rate = "the learning rate, or in `auto` the one that is right without staleness"
    found: dict[str, Any] = {"lr": {"anyOf": [{"type": "number"}, auto], "description": rate}}
    for optimizer, options in OPTIONS.items():
        for name, option in options.items():
            before = found.get(name, {}).get("description", "").partition(";")[0]
            users = f"{before}, {optimizer}" if before else f"of {optimizer}"
            found[name] = described({}, f"{users}; {option.expected}")
    return found

"""A table as a schedule: its CSV in canonical form, and the YAML that names it."""

from __future__ import annotations

import json
from typing import NamedTuple

from asyncpipe.tables.cells import split_backwards
from asyncpipe.tables.csv_text import csv_text
from asyncpipe.tables.read import Table
from asyncpipe.tables.verify import Shape

__all__ = ["Imported", "import_table"]


class Imported(NamedTuple):
    """The texts of two files, and what was changed on the way."""

    schedule: str
    table: str
    shape: Shape
    changes: tuple[str, ...]


def import_table(table: Table, name: str) -> Imported:
    """A schedule that repeats the table with a flush after each update; `name` is that of both files."""
    rows = split_backwards(table.rows)
    changes = []
    if rows is not table.rows:
        changes.append("every B became I and W, since some backwards are in halves, and a schedule has one kind")
    return Imported(_schedule(table.shape, name), csv_text(rows.actions), table.shape, tuple(changes))


def _schedule(shape: Shape, name: str) -> str:
    runs = "F, I, W, U" if shape.split else "F, B, U"
    stages = f"{shape.stages} stage{'s' if shape.stages > 1 else ''}"
    return f"""\
asyncpipe: 1
name: {_text(name)}
description: {shape.microbatches} microbatches for each update, on {stages}, in the order of a table.
stages: {shape.stages}
devices: {shape.devices}
place: [{", ".join(map(str, shape.place))}]
streams:
  compute: {{runs: [{runs}], per: device, table: {_text(f"{name}.csv")}}}
rules:
  - F[0, m] after U[*, g-1]            # the flush
update: {{every: {shape.microbatches}}}
"""


def _text(text: str) -> str:
    """In quotes where YAML would read it as something else."""
    plain = text.replace("-", "").replace("_", "").replace(".", "").isalnum() and text.isascii() and text[0].isalpha()
    special = text.lower() in ("null", "true", "false", "yes", "no", "on", "off")
    return text if plain and not special else json.dumps(text, ensure_ascii=False)

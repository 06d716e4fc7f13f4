"""From a file or a text in one of the dialects to verified rows."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from asyncpipe.errors import Position, Report
from asyncpipe.tables.cells import Rows
from asyncpipe.tables.csv_text import read_rows, read_text
from asyncpipe.tables.index import count_stages_and_microbatches
from asyncpipe.tables.torch_validator import note_what_torch_accepts
from asyncpipe.tables.verify import Shape, verify_rows
from asyncpipe.tables.zero_bubble import read_zero_bubble

__all__ = ["DIALECTS", "Table", "parse_table", "read_table"]

DIALECTS = ("torch-csv", "zero-bubble")


class Table(NamedTuple):
    """Verified rows and what they say about their schedule."""

    rows: Rows
    shape: Shape


def read_table(
    path: str | Path,
    report: Report,
    named: Position | None = None,
    *,
    devices: int | None = None,
    stages: int | None = None,
    microbatches: int | None = None,
) -> Table | None:
    """The CSV table in a file, which `named` in a schedule names; None with the findings in the report."""
    text = read_text(path, report, named)
    if text is None:
        return None
    return parse_table(text, str(path), report, devices=devices, stages=stages, microbatches=microbatches)


def parse_table(
    text: str,
    file: str,
    report: Report,
    dialect: str = "torch-csv",
    *,
    place: str | None = None,
    devices: int | None = None,
    stages: int | None = None,
    microbatches: int | None = None,
) -> Table | None:
    """A table's text, read and verified; None with all findings in the report. Given numbers must be the table's."""
    findings = Report()
    torch = dialect == "torch-csv"
    rows = read_rows(text, file, findings) if torch else read_zero_bubble(text, file, findings, place)
    shape = None
    if rows is not None:
        shape = verify_rows(rows, findings, devices=devices, stages=stages, microbatches=microbatches)
        if torch and findings.has_errors:
            found = count_stages_and_microbatches(rows)
            note_what_torch_accepts(text, stages or found[0], microbatches or found[1], findings)
    for diagnostic in findings.diagnostics:
        report.add(diagnostic)
    return None if rows is None or shape is None or findings.has_errors else Table(rows, shape)

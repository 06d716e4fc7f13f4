"""Strict reading of torch's CSV dialect: every cell has its place, and nothing is read past."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asyncpipe.cli.diagnostics import render
from asyncpipe.errors import Position, Report
from asyncpipe.ir import Action, Op
from asyncpipe.tables.cells import Rows
from asyncpipe.tables.csv_text import csv_text, read_rows
from asyncpipe.tables.generate import NAMES, rows
from asyncpipe.tables.read import DIALECTS, parse_table, read_table

CELLS = ("", "0F0", "0B0", "0I0", "0W0", "0U0", "1F0", "1B0", "0F1", "0B1", "(0F0;0B0)OVERLAP_F_B", "0X0", "0F0 #")


def read(text: str) -> tuple[Rows | None, Report]:
    report = Report()
    return read_rows(text, "t.csv", report), report


def findings(text: str) -> list[str]:
    """code line:column message; hint, in the order of the file."""
    report = read(text)[1]
    ordered = sorted(report.diagnostics, key=lambda d: (d.where, d.code))
    return [f"{d.code} {d.where.line}:{d.where.column} {d.message}; {d.hint}" for d in ordered if d.where]


def test_cells_have_their_places() -> None:
    found, report = read("0F0, 10F11,,0B0\n\t1I0 ,1W0,1U0\n")
    assert report.diagnostics == []
    assert found is not None
    assert found.actions == (
        (Action(0, Op.F, 0), Action(10, Op.F, 11), Action(0, Op.B, 0)),
        (Action(1, Op.I, 0), Action(1, Op.W, 0), Action(1, Op.U, 0)),
    )
    assert found.where(0, 1) == Position("t.csv", 1, 6, 5)
    assert found.where(0, 2) == Position("t.csv", 1, 13, 3)
    assert found.where(1, 0) == Position("t.csv", 2, 2, 3)
    assert found.whole
    assert found.cells == 6


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r", "\n\n\n", "", "\n  \n"])
def test_lines_may_end_as_they_like(end: str) -> None:
    middle = end.strip(" ")[:2] if end.startswith("\r") else "\n"
    found, report = read(f"0F0,0B0{middle}1F0,1B0{end}")
    assert report.diagnostics == []
    assert found is not None
    assert csv_text(found.actions) == "0F0,0B0\n1F0,1B0\n"


@pytest.mark.parametrize("name", NAMES)
def test_text_of_every_order_reads_back(name: str) -> None:
    stages = 4 if name in ("zbv", "dualpipev") else 2
    table = rows(name, 2, stages, 6)
    found, report = read(csv_text(table))
    assert report.diagnostics == []
    assert found is not None
    assert found.actions == table


def test_gaps_are_empty_cells() -> None:
    assert csv_text([[Action(0, Op.F, 0), None, Action(0, Op.B, 0)], [None]]) == "0F0,,0B0\n\n"


@pytest.mark.parametrize(
    ("cell", "hint"),
    [
        ("1F0garbage", "a cell is stage, op, microbatch: 2F0"),
        ("0FX", "a cell is stage, op, microbatch: 2F0"),
        ("0F", "a cell is stage, op, microbatch: 2F0"),
        ("0F-1", "a cell is stage, op, microbatch: 2F0"),
        ("00F0", "a cell is stage, op, microbatch: 2F0"),
        ("0F01", "a cell is stage, op, microbatch: 2F0"),
        ("0 F 0", "a cell is stage, op, microbatch: 2F0"),
        ("٣F0", "a cell is stage, op, microbatch: 2F0"),
        ("1" * 5000 + "F0", "a cell is stage, op, microbatch: 2F0"),
        ("0F0 # first", "remove the comment: a table has none"),
        ('"0F0"', "remove the quotes: a cell needs none"),
        ("0f0", "ops are in upper case, as in 2F0"),
        ("0R0", "the compiler places R: `recompute` in the schedule asks for it"),
        ("F0", "a cell begins with its stage; `--from zero-bubble` reads F0 B0 W0"),
        ("Rank 0", "a table has no header: only cells such as 2F0"),
        ("0F0;0B0", "separate cells by commas"),
        ("(0F0;0B0)", "a composite is (0F7;3B2)OVERLAP_F_B"),
        ("0OVERLAP_F_B", "a cell is stage, op, microbatch: 2F0"),
    ],
)
def test_what_is_no_action_is_refused(cell: str, hint: str) -> None:
    shown = cell if len(cell) <= 40 else f"{cell[:40]}..."
    assert findings(f"0F0,{cell}\n") == [f"AP130 1:5 expected an action such as 2F0, found {shown!r}; {hint}"]


def test_what_a_cell_was_meant_to_be_is_kept() -> None:
    """So that one wrong character does not call the rest wrong too."""
    found, _ = read("0F0x,0B0\n")
    assert found is not None
    assert csv_text(found.actions) == "0F0,0B0\n"
    assert found.whole
    lost, _ = read("0FX,0B0\n")
    assert lost is not None
    assert not lost.whole


def test_transfers_are_refused_once() -> None:
    (finding,) = findings("0F0,0SEND_F0,0RECV_B0,0B0,0REDUCE_GRAD\n1UNSHARD,1RECV_F0,1F0,1B0,1SEND_B0,1RESHARD\n")
    assert finding == (
        "AP130 1:5 expected F, B, I, W or U, found '0SEND_F0', and 6 more cells like it: not a compute-only table; "
        "export torch's compute_only form; the compiler adds transfers and gradient reductions itself"
    )


def test_composites_become_their_parts_in_order() -> None:
    found, report = read("0F7,(0F8;3B2)OVERLAP_F_B,(3F2; 0B1)OVERLAP_F_B\n")
    assert found is not None
    assert csv_text(found.actions) == "0F7,0F8,3B2,3F2,0B1\n"
    assert [found.where(0, step) for step in (1, 2, 4)] == [
        Position("t.csv", 1, 6, 3),
        Position("t.csv", 1, 10, 3),
        Position("t.csv", 1, 32, 3),
    ]
    assert [(d.severity, d.code, d.message) for d in report.diagnostics] == [
        (
            "note",
            "AP130",
            "(0F8;3B2)OVERLAP_F_B, and 1 more composite: the actions run one after another, in the order written",
        )
    ]
    assert not report.has_errors


@pytest.mark.parametrize("inside", ["", "0F0;", "0F0;1X0", "0F0;0U0", "0F0;(0B0)"])
def test_a_composite_has_actions_for_parts(inside: str) -> None:
    assert [f.partition(" ")[0] for f in findings(f"0F0,({inside})OVERLAP_F_B\n")] == ["AP130"]


@pytest.mark.parametrize("text", ["", "\n\n", "   ", "\ufeff"])
def test_an_empty_table_is_refused(text: str) -> None:
    assert findings(text) == ["AP138 1:1 the table is empty; one line for each device: 0F0,0F1,0B0,0B1"]


def test_a_device_without_actions_is_refused() -> None:
    report = Report()
    parse_table("0F0,0B0\n\n1F0,1B0\n,,\n", "t.csv", report)
    assert [(d.code, str(d.where), d.message) for d in report.diagnostics] == [
        ("AP138", "t.csv:2:1", "device 1 has no actions"),
        ("AP138", "t.csv:4:1", "device 3 has no actions"),
    ]


def test_another_format_gives_a_page_of_findings_and_a_count() -> None:
    found = findings("\n".join(["some;other;thing"] * 200))
    assert len(found) == 51
    assert sum("150 more cells are no actions" in finding for finding in found) == 1


def test_a_file_with_a_byte_order_mark_reads(tmp_path: Path) -> None:
    file = tmp_path / "t.csv"
    file.write_bytes(b"\xef\xbb\xbf0F0,0B0\r\n")
    report = Report()
    table = read_table(file, report)
    assert report.diagnostics == []
    assert table is not None
    assert table.shape.place == (0,)


@pytest.mark.parametrize("content", [None, b"\xff\xfe0F0"])
def test_a_file_that_cannot_be_read_is_named_with_its_place(tmp_path: Path, content: bytes | None) -> None:
    file = tmp_path / "t.csv"
    if content is not None:
        file.write_bytes(content)
    report = Report()
    named = Position("schedule.yaml", 3, 7)
    assert read_table(file, report, named) is None
    (diagnostic,) = report.diagnostics
    assert (diagnostic.code, diagnostic.where) == ("AP100", named)
    assert diagnostic.message.startswith(f"{file}: cannot be read: ")


def test_findings_of_reading_and_of_verifying_come_together() -> None:
    report = Report()
    assert parse_table("0F0x,0F0,0B0\n1B0,1F0\n", "t.csv", report) is None
    assert sorted(d.code for d in report.diagnostics) == ["AP130", "AP131", "AP136"]


def test_a_finding_is_rendered_with_its_cell(tmp_path: Path) -> None:
    file = tmp_path / "t.csv"
    file.write_text("0F0,0B0\n1F0,1Q0\n")
    report = Report()
    read_table(file, report)
    assert render(report.diagnostics) == (
        f"{file}:2:5: error[AP130]: expected an action such as 2F0, found '1Q0'\n"
        "    2 | 1F0,1Q0\n"
        "      |     ^^^\n"
        "  = help: a cell is stage, op, microbatch: 2F0\n"
    )


@given(st.text("0129FBIWUfbw,;()#\n\r \t\ufeff\u0663OVERLAP_SEND", max_size=60), st.sampled_from(DIALECTS))
def test_any_text_is_a_table_or_gets_findings_with_places(text: str, dialect: str) -> None:
    report = Report()
    table = parse_table(text, "t.csv", report, dialect)
    assert (table is None) is report.has_errors
    lines = text.splitlines() or [""]
    for diagnostic in report.diagnostics:
        assert diagnostic.where is not None
        assert 1 <= diagnostic.where.line <= len(lines) + 1
        assert diagnostic.hint


@given(st.lists(st.lists(st.sampled_from(CELLS), max_size=8), max_size=3))
def test_any_cells_are_a_table_or_get_findings(cells: list[list[str]]) -> None:
    """What is accepted is written back as it was read, without its gaps."""
    report = Report()
    table = parse_table("".join(f"{','.join(row)}\n" for row in cells), "t.csv", report)
    assert (table is None) is report.has_errors
    if table is not None:
        written = [",".join(filter(None, row)).replace("(0F0;0B0)OVERLAP_F_B", "0F0,0B0") for row in cells]
        assert csv_text(table.rows.actions).split() == [row for row in written if row]

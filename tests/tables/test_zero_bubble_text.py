"""What the zero-bubble project prints becomes the same table, with its letters translated."""

from __future__ import annotations

import pytest

from asyncpipe.errors import Report
from asyncpipe.ir import Action
from asyncpipe.tables.csv_text import csv_text
from asyncpipe.tables.generate import rows
from asyncpipe.tables.read import parse_table

Table = tuple[tuple[Action, ...], ...]


def read(text: str, place: str | None = None) -> tuple[str | None, Report]:
    report = Report()
    table = parse_table(text, "log.txt", report, "zero-bubble", place=place)
    return (None if table is None else csv_text(table.rows.actions)), report


def lines(table: Table, devices: int, transfers: bool = False) -> str:
    """As `print_schedule` writes them: small letters for chunk 0, capitals for the others, b for both backwards."""

    def item(action: Action) -> str:
        letter = {"F": "f", "B": "b", "I": "b", "W": "w"}[action.op]
        words = [f"{letter}{action.index}"]
        if transfers and letter != "w":
            words = [f"r{letter}{action.index}", *words, f"s{letter}{action.index}"]
        return " ".join(words) if action.stage < devices else " ".join(words).upper()

    return "".join(" ".join(map(item, row)) + "\n" for row in table)


def nodes(table: Table, devices: int, quoted: bool = False) -> str:
    """As `print(local_order)` writes them."""

    def node(device: int, action: Action) -> str:
        word = {"F": "F", "B": "BW", "I": "B", "W": "W"}[action.op]
        fields = {
            "type": repr(word) if quoted else word,
            "stage": device,
            "microbatch": action.index,
            "chunk": action.stage // devices,
            "seq_split_idx": 0,
            "layer_group_idx": action.stage,
            "start_time": 1.5,
            "comm_direction": "<CommDirection.NEXT: 0>",
            "rollback": False,
        }
        return f"ScheduledNode({', '.join(f'{key}={value}' for key, value in fields.items())})"

    rows_of_nodes = (", ".join(node(device, action) for action in row) for device, row in enumerate(table))
    return f"[[{'], ['.join(rows_of_nodes)}]]"


SIZES = [("zb-h1", 3, 3), ("1f1b", 3, 3), ("gpipe", 2, 2), ("zbv", 3, 6), ("zb-h1", 3, 6), ("interleaved-1f1b", 2, 4)]


@pytest.mark.parametrize(("name", "devices", "stages"), SIZES)
@pytest.mark.parametrize("transfers", [False, True])
def test_printed_lines_become_the_table_that_was_printed(name: str, devices: int, stages: int, transfers: bool) -> None:
    table = rows(name, devices, stages, 6)
    found, report = read(lines(table, devices, transfers))
    assert found == csv_text(table)
    left_out = sum(2 for row in table for action in row if action.op != "W") if transfers else 0
    assert [(d.severity, d.message) for d in report.diagnostics] == (
        [("note", f"left out: {left_out} transfers")] if transfers else []
    )


@pytest.mark.parametrize(("name", "devices", "stages"), [*SIZES, ("interleaved-1f1b", 2, 6), ("dualpipev", 2, 4)])
@pytest.mark.parametrize("quoted", [False, True])
def test_printed_nodes_become_the_table_that_was_printed(name: str, devices: int, stages: int, quoted: bool) -> None:
    table = rows(name, devices, stages, 6)
    found, report = read(nodes(table, devices, quoted))
    assert report.diagnostics == []
    assert found == csv_text(table)


def test_nodes_of_older_versions_count_minibatches_and_chunks() -> None:
    found, report = read("[[ScheduledNode(type='F', stage=0, minibatch=0, chunk=0), "
                         "ScheduledNode(type='F', stage=0, minibatch=0, chunk=1), "
                         "ScheduledNode(type='B', stage=0, minibatch=0, chunk=1), "
                         "ScheduledNode(type='W', stage=0, minibatch=0, chunk=1),\n"
                         "ScheduledNode(type='BW', stage=0, minibatch=0, chunk=0)]]")  # fmt: skip
    assert report.diagnostics == []
    assert found == "0F0,1F0,1I0,1W0,0B0\n"


def test_capitals_alone_are_one_chunk() -> None:
    assert read("F0 F1 B0 W0 B1 W1\nF0 B0 W0 F1 B1 W1\n")[0] == "0F0,0F1,0I0,0W0,0I1,0W1\n1F0,1I0,1W0,1F1,1I1,1W1\n"


def test_a_backward_without_w_is_whole() -> None:
    assert read("f0 b0 f1 b1 w1\n")[0] == "0F0,0B0,0F1,0I1,0W1\n"


def test_where_second_chunks_lie_is_asked_where_the_order_does_not_say() -> None:
    text = "f0 F0 B0 b0\nf0 F0 B0 b0\n"
    found, report = read(text)
    assert found is None
    (diagnostic,) = report.diagnostics
    assert (diagnostic.code, str(diagnostic.where)) == ("AP138", "log.txt:1:4")
    assert diagnostic.message == (
        "second chunks can lie as a V (device d has stage S - 1 - d) or in a loop (stage D + d)"
    )
    assert diagnostic.hint == "say which it is with --place v or --place loop"
    assert read(text, "v")[0] == "0F0,3F0,3B0,0B0\n1F0,2F0,2B0,1B0\n"
    assert read(text, "loop")[0] == "0F0,2F0,2B0,0B0\n1F0,3F0,3B0,1B0\n"


def test_an_order_that_deadlocks_wherever_second_chunks_lie_is_told_for_the_place_that_is_given() -> None:
    text = "f0 F0 b0 B0\nf0 F0 B0 b0\n"
    found, report = read(text)
    assert found is None
    assert [d.message for d in report.diagnostics] == [
        "second chunks lie neither as a V nor in a loop: each order would deadlock"
    ]
    found, report = read(text, "v")
    assert found is None
    assert [(d.code, str(d.where)) for d in report.diagnostics] == [("AP201", "log.txt:1:7")]


@pytest.mark.parametrize(
    ("text", "finding"),
    [
        ("", "1:1 AP138 the table is empty"),
        ("f0 b-0\n", "1:4 AP130 expected an item such as f0, found 'b-0'"),
        ("f0 pv0 b0\n", "1:4 AP130 expected f, b, w or bw, found 'pv'"),
        ("f0 b0\nq7\n", "2:1 AP130 expected f, b, w or bw, found 'q'"),
        ("f0 F0 F0 B0 B0 b0\n", "1:4 AP138 a line shows no difference between second and third chunks"),
        ("f0 b0 b0\n", "1:7 AP131 0B0 is here a second time"),
        ("f0 b0 f1\n", "1:7 AP134 stage 0 has no backward for microbatch 1"),
        ("f0 b0\nb0 f0\n", "2:1 AP136 1B0 stands before 1F0, whose result it needs"),
        ("[[ScheduledNode(type=F, stage=0, microbatch=0), x]]", "1:49 AP130 expected ScheduledNode(...)"),
        ("\n\n [ScheduledNode(type=S, stage=0, microbatch=0)]", "3:3 AP130 expected f, b, w or bw, found 'S'"),
        ("ScheduledNode(type=F, stage=x, microbatch=0)", "1:1 AP130 expected the fields stage and microbatch"),
        (
            "ScheduledNode(type=F, stage=0, microbatch=0, rollback=True)",
            "1:1 AP130 parts of a sequence and rollbacks have no form in a table",
        ),
        ("ScheduledNode(type=F, stage=99999, microbatch=0)", "1:1 AP130 device 99999 is out of range"),
    ],
)
def test_wrong_texts_are_refused_with_their_places(text: str, finding: str) -> None:
    found, report = read(text)
    assert found is None
    (diagnostic,) = report.diagnostics
    where = diagnostic.where
    assert where is not None
    assert f"{where.line}:{where.column} {diagnostic.code} {diagnostic.message}" == finding
    assert diagnostic.hint


def test_a_log_in_another_format_gives_a_page_of_findings_and_a_count() -> None:
    report = read("some words here\n" * 100)[1]
    assert len(report.diagnostics) == 51
    assert report.diagnostics[-1].message == "250 more items are no actions"

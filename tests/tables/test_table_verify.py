"""Every way in which a table can be wrong: the code, the cell, the reason, and whether torch would have told."""

from __future__ import annotations

import random
import time
from typing import NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asyncpipe.errors import Diagnostic, Report
from asyncpipe.ir import Action, Op, parse_action
from asyncpipe.tables.cells import Rows
from asyncpipe.tables.csv_text import csv_text
from asyncpipe.tables.deadlock import blocked_rows
from asyncpipe.tables.generate import NAMES, rows
from asyncpipe.tables.index import Index
from asyncpipe.tables.read import parse_table
from asyncpipe.tables.torch_validator import accepted_by_torch
from asyncpipe.tables.verify import Shape, verify_rows
from tests.torch_tables import is_accepted


class Case(NamedTuple):
    """What section of the file is wrong, and whether torch takes it (None: it raises something else on the way)."""

    text: str
    findings: list[str]
    torch_accepts: bool
    stages: int = 2
    microbatches: int = 2


def check(text: str, **given_sizes: int) -> list[Diagnostic]:
    report = Report()
    parse_table(text, "t.csv", report, **given_sizes)  # type: ignore[arg-type]
    return sorted(report.diagnostics, key=lambda d: (d.where is None, d.where, d.code))


def told(diagnostics: list[Diagnostic]) -> list[str]:
    return [f"{d.where.line}:{d.where.column} {d.code} {d.message}" for d in diagnostics if d.where]


CASES = {
    "twice": Case("0F0,0F0,0F1,0B0,0B1\n1F0,1B0,1F1,1B1\n", ["1:5 AP131 0F0 is here a second time"], True),
    "gap": Case(
        "0F0,0F9,0B0,0B9\n1F0,1B0,1F9,1B9\n",
        [
            f"{line}:{column} AP133 stage {stage} has microbatch 9, and no forward of microbatch 1: "
            "the 2 microbatches of an update are 0 to 1"
            for line, column, stage in ((1, 5, 0), (2, 9, 1))
        ],
        True,
    ),
    "both kinds of backward": Case(
        "0F0,0F1,0B0,0I0,0W0\n1F0,1B0,1F1,1B1\n",
        [
            "1:5 AP134 stage 0 has no backward for microbatch 1",
            "1:9 AP134 stage 0 has a whole backward B and a half of one for microbatch 0",
        ],
        True,
    ),
    "deadlock": Case(
        "0F0,0B0,0F1,0B1\n1F0,1F1,1B0,1B1\n", ["1:5 AP201 deadlock: 0B0 -> 1B0 -> 1F1 -> 0F1 -> 0B0"], True
    ),
    "stage out of range": Case(
        "0F0,0B0,5F0,5B0,0F1,0B1\n1F0,1B0,1F1,1B1\n",
        ["1:9 AP132 stage 5 is out of range: 2 stages, 0 to 1"],
        False,
    ),
    "text after an action": Case(
        "0F0garbage,0B0,0F1,0B1 # end\n1F0,1B0,1F1,1B1\n",
        [
            "1:1 AP130 expected an action such as 2F0, found '0F0garbage'",
            "1:20 AP130 expected an action such as 2F0, found '0B1 # end'",
        ],
        True,
    ),
    "no microbatch": Case(
        "0F0,0B0,0FX,0BX\n1F0,1B0,1F1,1B1\n",
        [
            "1:9 AP130 expected an action such as 2F0, found '0FX'",
            "1:13 AP130 expected an action such as 2F0, found '0BX'",
        ],
        True,
    ),
    "transfers": Case(
        "0F0,0SEND_F0,0RECV_B0,0B0,0F1,0B1\n1RECV_F0,1F0,1B0,1SEND_B0,1F1,1B1\n",
        ["1:5 AP130 expected F, B, I, W or U, found '0SEND_F0', and 3 more cells like it: not a compute-only table"],
        False,
    ),
    "backward first": Case(
        "0B0,0F0,0F1,0B1\n1F0,1F1,1B1,1B0\n",
        [
            "1:1 AP136 0B0 stands before 0F0, whose result it needs",
            "1:1 AP201 deadlock: 0B0 -> 1B0 -> 1F0 -> 0F0 -> 0B0",
        ],
        False,
    ),
    "W before I": Case(
        "0F0,0W0,0I0,0F1,0B1\n1F0,1B0,1F1,1B1\n",
        ["1:5 AP136 0W0 stands before 0I0, whose result it needs"],
        False,
    ),
    "stages of a device in the wrong order": Case(
        "1F0,0F0,0F1,1F1,0B0,1B0,1B1,0B1\n",
        [
            "1:1 AP136 1F0 stands before 0F0, whose result it needs",
            "1:17 AP136 0B0 stands before 1B0, whose result it needs",
        ],
        True,
    ),
    "I without W": Case(
        "0F0,0I0,0F1,0B1\n1F0,1B0,1F1,1B1\n",
        ["1:5 AP134 stage 0 has an input gradient I without its weight gradient W for microbatch 0"],
        False,
    ),
    "W without I": Case(
        "0F0,0W0,0F1,0B1\n1F0,1B0,1F1,1B1\n",
        ["1:5 AP134 stage 0 has a weight gradient W without its input gradient I for microbatch 0"],
        False,
    ),
    "no backward": Case(
        "0F0,0F1,0B0\n1F0,1B0,1F1,1B1\n", ["1:5 AP134 stage 0 has no backward for microbatch 1"], False
    ),
    "no forward": Case(
        "0F0,0B0,0B1\n1F0,1B0,1F1,1B1\n",
        ["1:1 AP133 stage 0 has no forward of microbatch 1: the 2 microbatches of an update are 0 to 1"],
        False,
    ),
    "two devices": Case(
        "0F0,0F1,1B1,0B1\n1F0,1B0,1F1,0B0\n",
        ["1:9 AP135 stage 1 is on device 1 and on device 0", "2:13 AP135 stage 0 is on device 0 and on device 1"],
        False,
    ),
    "missing stage": Case("0F0,0B0,0F1,0B1\n", ["1:1 AP132 no row has stage 1 of 2"], False),
    "update of a later window": Case(
        "0F0,0B0,0F1,0B1,0U1\n1F0,1B0,1F1,1B1,1U0\n",
        ["1:17 AP137 0U1: a table is one update window, its updates have index 0"],
        False,
    ),
    "update too early": Case(
        "0F0,0B0,0F1,0U0,0B1\n1F0,1B0,1F1,1B1,1U0\n",
        ["1:13 AP136 0U0 stands before 0B1, whose result it needs"],
        False,
    ),
    "update of one stage only": Case(
        "0F0,0B0,0F1,0B1,0U0\n1F0,1B0,1F1,1B1\n", ["1:17 AP137 stage 1 has no update, but stage 0 has one"], False
    ),
    "device without actions": Case(
        "0F0,1F0,1B0,0B0,0F1,1F1,1B1,0B1\n,,\n", ["2:1 AP138 device 1 has no actions"], True
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_wrong_tables_are_rejected_with_their_reason(name: str) -> None:
    """Beside torch's own validator: what a finding says of it is so."""
    case = CASES[name]
    found = check(case.text, stages=case.stages)
    assert told(found) == case.findings
    assert all(diagnostic.hint for diagnostic in found)
    assert is_accepted(case.text, case.stages, case.microbatches) is case.torch_accepts
    noted = [text for d in found for text, _ in d.notes if "torch" in text]
    assert bool(noted) is case.torch_accepts
    assert all(text.startswith("the validator of torch 2.11 to 2.13 accepts this table: it ") for text in noted)
    assert len(noted) == len({d.code for d in found} if case.torch_accepts else ())


def test_given_numbers_must_be_the_tables_own() -> None:
    text = csv_text(rows("1f1b", 2, 2, 4))
    assert check(text, devices=2, stages=2, microbatches=4) == []
    assert told(check(text, devices=3)) == ["1:1 AP132 expected 3 rows, one for each device, found 2"]
    assert told(check(text, stages=3)) == ["1:1 AP132 no row has stage 2 of 3"]
    assert told(check(text, stages=1)) == ["2:1 AP132 stage 1 is out of range: 1 stage, 0 to 0"]
    assert told(check(text, microbatches=6)) == [
        f"{line}:1 AP133 stage {stage} has no forward of microbatches 4-5: the 6 microbatches of an update are 0 to 5"
        for line, stage in ((1, 0), (2, 1))
    ]
    assert [d.code for d in check(text, microbatches=3)] == ["AP133", "AP133"]


def test_a_stage_number_out_of_this_world_is_one_finding() -> None:
    text = "0F0,0B0,999999999F0,999999999B0\n"
    assert told(check(text)) == ["1:9 AP132 stage 999999999 is out of range: there are at most 4,096 stages"]


def test_a_table_for_more_microbatches_than_an_update_can_have_is_refused() -> None:
    text = csv_text(rows("gpipe", 1, 1, 4097))
    assert told(check(text)) == ["1:1 AP133 4,097 microbatches in one update: there are at most 4,096"]


def test_many_findings_of_one_kind_are_one_for_each_stage() -> None:
    table = [list(row) for row in rows("gpipe", 2, 2, 50)]
    text = csv_text([table[0] + table[0][50:], table[1][50:] + table[1][:50]])
    found = told(check(text))
    assert found[0] == "1:481 AP131 0B0 is here a second time, and 49 more repeated actions"
    assert found[1] == "2:1 AP136 1B0 stands before 1F0, whose result it needs, and 49 more such pairs"
    assert found[2:] == []


def test_a_valid_table_has_a_shape() -> None:
    report = Report()
    table = parse_table(csv_text(rows("zbv", 2, 4, 4)), "t.csv", report)
    assert table is not None
    assert table.shape == Shape(2, 4, 4, (0, 1, 1, 0), split=True, updates=False)
    with_updates = parse_table("0F0,0B0,0U0\n1F0,1B0,1U0\n", "t.csv", report)
    assert with_updates is not None
    assert with_updates.shape == Shape(2, 2, 1, (0, 1), split=False, updates=True)


def test_a_cycle_of_three_devices_is_told_whole() -> None:
    """Interleaved stages close the ring of devices; each note stands at its cell."""
    text = "3F0,0F0,3B0,0B0\n1F0,1B0\n2F0,2B0\n"
    (deadlock,) = check(text)
    assert deadlock.message == "deadlock: 3F0 -> 2F0 -> 1F0 -> 0F0 -> 3F0"
    assert [(text, where.line, where.column) for text, where in deadlock.notes if where] == [
        ("3F0 needs the result of 2F0", 1, 1),
        ("2F0 needs the result of 1F0", 3, 1),
        ("1F0 needs the result of 0F0", 2, 1),
        ("device 0 runs 3F0 before 0F0", 1, 5),
    ]


def shortest_by_search(table: tuple[tuple[Action, ...], ...]) -> int | None:
    """Hops of the shortest cycle over all cells, by plain search: the oracle."""
    index = Index(Rows(table))
    cells = index.cells
    hops = {
        cell: [cells[s] for s in index.sources(a) if s in cells and cells[s][0] != cell[0]] for a, cell in cells.items()
    }
    best: int | None = None
    for start in cells.values():
        front, seen = {start}, {start}
        for length in range(1, len(table) + 1):
            sources = {source for cell in front for source in hops[cell]}
            if any(device == start[0] and step >= start[1] for device, step in sources):
                best = length if best is None else min(best, length)
                break
            front = {(device, s) for device, step in sources for s in range(step + 1)} - seen
            seen |= front
    return best


@given(
    st.sampled_from(NAMES), st.integers(2, 4), st.integers(1, 2), st.integers(1, 6), st.randoms(use_true_random=False)
)
def test_a_shuffled_table_is_accepted_or_rejected_with_a_shortest_cycle(
    name: str, devices: int, each: int, microbatches: int, chance: random.Random
) -> None:
    """Orders inside rows stay right: only rows against each other can be wrong."""
    try:
        table = [list(row) for row in rows(name, devices, each * devices, microbatches)]
    except ValueError:
        return
    for row in table:
        for _ in range(chance.randrange(4)):
            a, b = sorted(chance.sample(range(len(row)), 2))
            row.insert(a, row.pop(b))
    shuffled = tuple(map(tuple, table))
    report = Report()
    shape = verify_rows(Rows(shuffled), report)
    in_row = [d for d in report.diagnostics if d.code == "AP136"]
    cycles = [d for d in report.diagnostics if d.code == "AP201"]
    hops = shortest_by_search(shuffled)
    assert len(cycles) == (0 if hops is None else 1)
    if hops is not None:
        assert sum("needs the result" in text for text, _ in cycles[0].notes) == hops
    assert (shape is None) is bool(in_row or cycles)


@given(st.data())
def test_what_is_said_of_torch_is_what_torch_does(data: st.DataObject) -> None:
    """Mutated tables: our model of its validator against its validator."""
    name, stages = data.draw(st.sampled_from([("1f1b", 2), ("zb-h1", 2), ("zbv", 4), ("looped-bfs", 4)]))
    microbatches = data.draw(st.sampled_from([2, 4]))
    table = [[str(action) for action in row] for row in rows(name, 2, stages, microbatches)]
    for _ in range(data.draw(st.integers(0, 3))):
        row = data.draw(st.sampled_from(table))
        at = data.draw(st.integers(0, len(row) - 1))
        change = data.draw(
            st.sampled_from(["drop", "double", "gap", "swap", "renumber", "op", "rest", "stage", "pair"])
        )
        match change:
            case "drop":
                del row[at]
                row += [""]
            case "double":
                row.insert(at, row[at])
            case "gap":
                row.insert(at, " ")
            case "swap":
                row[at - 1], row[at] = row[at], row[at - 1]
            case "renumber":
                row[at] = f"{row[at][:2]}{data.draw(st.integers(0, 5))}"
            case "op":
                row[at] = f"{row[at][:1]}{data.draw(st.sampled_from([*'FBIW', 'SEND_F', 'Q', 'UNSHARD']))}{row[at][2:]}"
            case "rest":
                row[at] += data.draw(st.sampled_from(["garbage", " # x", "X", "."]))
            case "stage":
                row[at] = f"{data.draw(st.integers(0, 5))}{row[at][1:]}"
            case "pair":
                row[at] = f"({row[at]};{row[at - 1]})OVERLAP_F_B"
    text = "\n".join(",".join(row) for row in table) + "\n"
    assert accepted_by_torch(text, stages, microbatches) is is_accepted(text, stages, microbatches)


def test_rows_that_end_are_not_blocked() -> None:
    index = Index(Rows(((parse_action("0F0"), parse_action("0B0")), (parse_action("1F0"), parse_action("1B0")))))
    assert blocked_rows(index.rows, index.cells, index.sources) == {}


@pytest.mark.parametrize("wrong", [False, True])
def test_fifty_thousand_cells_take_seconds_not_minutes(wrong: bool) -> None:
    """Whatever looks at pairs of cells would need 2.5 * 10^9 looks; a table that is wrong in many places too."""
    table = [list(row) for row in rows("interleaved-1f1b", 16, 64, 400)]
    if wrong:
        table[5] = table[5][::-1]
        table[9] += table[9]
        table[3][100], table[3][2500] = table[3][2500], table[3][100]
    text = csv_text(table)
    report = Report()
    begin = time.perf_counter()
    parse_table(text, "t.csv", report)
    assert time.perf_counter() - begin < 10
    assert report.has_errors is wrong


def test_updates_come_after_the_last_gradient_of_their_stage() -> None:
    ok = tuple(tuple(parse_action(text) for text in row.split()) for row in ("0F0 0I0 0W0 0U0", "1F0 1B0 1U0"))
    assert verify_rows(Rows(ok), report := Report()) is not None
    assert report.diagnostics == []
    assert {action.op for row in ok for action in row} == {Op.F, Op.B, Op.I, Op.W, Op.U}

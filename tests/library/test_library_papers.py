"""docs/papers.md: a section for each file, what cannot be trained, and the bubbles of tables and greedy orders."""

from __future__ import annotations

import re
from fractions import Fraction

import pytest

from asyncpipe.errors import ScheduleError
from asyncpipe.ir import Op
from asyncpipe.schedule import library, load
from tests.library.instances import compiled
from tests.library.update_papers import PAPERS, training_line

TEXT = PAPERS.read_text("utf-8")
SECTIONS = dict(re.findall(r"^### ([a-z0-9-]+)\n\n(.*?)(?=^##|\Z)", TEXT, re.M | re.S))
ROWS = [line.strip("| ").split(" | ") for line in TEXT.splitlines() if line.startswith("| ")]


def test_every_file_has_a_section() -> None:
    assert sorted(SECTIONS) == sorted(library())


@pytest.mark.parametrize("name", library())
def test_a_section_names_the_paper(name: str) -> None:
    paper = load(name).paper
    own = [paper.id.split("v")[0]] if paper and "extends" not in library()[name].read_text("utf-8") else []
    assert all(identifier in SECTIONS[name] or name.endswith("-greedy") for identifier in own)


@pytest.mark.parametrize("name", library())
def test_a_section_says_what_cannot_be_trained(name: str) -> None:
    """`python -m tests.library.update_papers` writes these lines."""
    last = SECTIONS[name].rstrip().split("\n\n")[-1]
    assert " ".join(last.split()) == training_line(name)


def bubble(name: str, devices: int, microbatches: int) -> str:
    """What a device idles in one update."""
    per_device = 2 if "interleaved" in name else 1
    try:
        found = compiled(name, devices * per_device, f"update.every={microbatches}")
    except ScheduleError:
        return "-"
    work = sum(found.ticks.of(op, 0) for op in (Op.F, Op.B)) * found.ticks.unit
    return str(found.period * microbatches - work * per_device * microbatches)


@pytest.mark.parametrize("row", ROWS[1:], ids=lambda row: f"{row[0]}-devices-{row[1]}-microbatches")
def test_the_table_of_bubbles_is_right(row: list[str]) -> None:
    devices, microbatches = int(row[0]), int(row[1])
    assert [bubble(name, devices, microbatches) for name in ROWS[0][2:]] == row[2:]


@pytest.mark.parametrize("devices", [2, 3, 4, 6])
def test_published_orders_have_the_bubbles_of_their_papers(devices: int) -> None:
    """(D-1)(F+B), the same for two stages of half the size on a device, and (D-1)(F+I-W)."""
    for name, share in (("1f1b", 3), ("interleaved-1f1b", 3), ("zb-h1", 1)):
        assert bubble(name, devices, 12) == str(Fraction(share * (devices - 1)))


@pytest.mark.parametrize("table", ["interleaved-1f1b", "zb-h1"])
def test_no_greedy_order_beats_its_table(table: str) -> None:
    columns = [ROWS[0].index(name) for name in (f"{table}-greedy", table)]
    pairs = [[row[column] for column in columns] for row in ROWS[1:]]
    assert all(int(found) >= int(best) for found, best in pairs if best != "-")

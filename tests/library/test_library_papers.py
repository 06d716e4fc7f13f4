"""docs/papers.md: a section for each file, what it lacks for training, and the bubbles of tables and greedy orders."""

from __future__ import annotations

import re
from fractions import Fraction
from pathlib import Path

import pytest

from asyncpipe.errors import ScheduleError
from asyncpipe.ir import Op
from asyncpipe.schedule import Schedule, library, load
from tests.library.instances import compiled

TEXT = (Path(__file__).resolve().parents[2] / "docs" / "papers.md").read_text("utf-8")
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
def test_a_section_says_what_training_needs(name: str) -> None:
    needs = training_needs(load(name))
    *others, last = needs or [""]
    text = f"not yet, it needs {', '.join(others)}{' and ' if others else ''}{last}." if needs else "yes."
    assert " ".join(SECTIONS[name].split("\n\nTraining: ")[1].split()) == text


def training_needs(schedule: Schedule) -> list[str]:
    """The parts of a schedule that this version can check and simulate, but not train."""
    update, weights, recompute = schedule.update, schedule.weights, schedule.recompute.mode
    found = {
        "several devices": str(schedule.devices) != "1",
        "recomputation": recompute == "full",
        "reversible stages": recompute == "invert",
        "old versions of the weights": weights.forward == "lag",
        "predicted weights": weights.forward == "predict",
        "estimated weights": weights.backward == "ema",
        "private copies of the weights": weights.backward == "private",
        "atomic additions": update.write == "atomic",
        "overwriting": update.write == "overwrite",
        "an optimizer state for each stream": update.owner == "stream",
        "partitioned updates": update.scope != "all",
        "tentative updates": update.commit > 1,
        "gradient transforms": bool(schedule.gradient),
        "local losses": schedule.aux.gradient == "local",
        "synthetic gradients": schedule.aux.gradient == "synthetic",
        "replicas": schedule.replicas.sync is not None,
    }
    return [words for words, needed in found.items() if needed]


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


@pytest.mark.parametrize(
    ("greedy", "table"), [("interleaved-1f1b-greedy", "interleaved-1f1b"), ("zb-h1-greedy", "zb-h1")]
)
def test_no_greedy_order_beats_its_table(greedy: str, table: str) -> None:
    columns = [ROWS[0].index(name) for name in (greedy, table)]
    pairs = [[row[column] for column in columns] for row in ROWS[1:]]
    assert all(int(found) >= int(best) for found, best in pairs if best != "-")

"""Tables go out and come back unchanged, and torch loads what goes out."""

from __future__ import annotations

from pathlib import Path

import pytest

from asyncpipe.errors import Report
from asyncpipe.exchange.import_table import import_table
from asyncpipe.exchange.losses import Loss, losses
from asyncpipe.exchange.window import window
from asyncpipe.tables.csv_text import csv_text
from asyncpipe.tables.generate import rows
from asyncpipe.tables.read import parse_table
from tests.exchange.schedules import TABLES, compiled_file, compiled_text, greedy, of_table
from tests.torch_tables import is_accepted, loaded_from_csv


def exported(text: str) -> str:
    compiled = compiled_text(text)
    found = window(compiled, compiled.diagram.every)
    assert losses(compiled, found) == []
    return csv_text(found.rows)


def imported(text: str, folder: Path, name: str) -> Path:
    report = Report()
    table = parse_table(text, "t.csv", report)
    assert report.diagnostics == []
    assert table is not None
    files = import_table(table, name)
    (folder / f"{name}.csv").write_text(files.table)
    (folder / f"{name}.yaml").write_text(files.schedule)
    return folder / f"{name}.yaml"


@pytest.mark.parametrize(("name", "devices", "stages", "microbatches"), TABLES)
def test_a_table_comes_back_as_it_went_out(
    name: str, devices: int, stages: int, microbatches: int, tmp_path: Path
) -> None:
    text = exported(of_table(name, devices, stages, microbatches))
    assert text == csv_text(rows(name, devices, stages, microbatches))
    again = compiled_file(imported(text, tmp_path, "again"))
    found = window(again, microbatches)
    assert csv_text(found.rows) == text
    assert losses(again, found) == list[Loss]()


@pytest.mark.parametrize(("name", "devices", "stages", "microbatches"), TABLES)
def test_torch_loads_and_lowers_what_goes_out(
    name: str, devices: int, stages: int, microbatches: int, tmp_path: Path
) -> None:
    text = exported(of_table(name, devices, stages, microbatches))
    assert is_accepted(text, stages, microbatches)
    file = tmp_path / "table.csv"
    file.write_text(text)
    assert loaded_from_csv(str(file), stages, microbatches, devices) == [row.split(",") for row in text.splitlines()]


@pytest.mark.parametrize("devices", [1, 2, 4, 5])
def test_greedy_orders_go_out_as_the_published_tables(devices: int) -> None:
    for every in (devices, 2 * devices + 1):
        assert exported(greedy("F, B, U", devices=devices, every=every)) == csv_text(
            rows("gpipe", devices, devices, every)
        )
        assert exported(greedy("U, B, F", "S - s", devices, every)) == csv_text(rows("1f1b", devices, devices, every))


def test_updates_in_a_table_stay_there(tmp_path: Path) -> None:
    text = "0F0,0F1,0B0,0B1,0U0\n1F0,1B0,1F1,1B1,1U0\n"
    path = imported(text, tmp_path, "with-updates")
    assert (tmp_path / "with-updates.csv").read_text() == text
    assert csv_text(window(compiled_file(path), 2).rows) == text.replace(",0U0", "").replace(",1U0", "")


def test_both_kinds_of_backward_become_one(tmp_path: Path) -> None:
    """DualPipeV has whole backwards and halves; a stage of ours has one kind."""
    report = Report()
    table = parse_table(csv_text(rows("dualpipev", 2, 4, 6)), "t.csv", report)
    assert table is not None
    files = import_table(table, "dualpipev")
    assert files.changes == ("every B became I and W, since some backwards are in halves, and a schedule has one kind",)
    assert "B" not in files.table
    (tmp_path / "dualpipev.yaml").write_text(files.schedule)
    (tmp_path / "dualpipev.csv").write_text(files.table)
    assert csv_text(window(compiled_file(tmp_path / "dualpipev.yaml"), 6).rows) == files.table


@pytest.mark.parametrize("name", ["plain", "1f1b", "a b", "null", "ä-ö", 'quo"te', "-x", "a.b"])
def test_any_file_name_makes_a_schedule(name: str, tmp_path: Path) -> None:
    path = imported("0F0,0B0\n", tmp_path, name)
    assert compiled_file(path).schedule.name == name

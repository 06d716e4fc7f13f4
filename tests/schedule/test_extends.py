"""`extends`: what a file takes from another one, what it changes, and where its findings stand."""

from __future__ import annotations

from pathlib import Path

import pytest

from asyncpipe.errors import ScheduleError
from asyncpipe.ir import Op
from asyncpipe.schedule import Schedule, load

BASE = """\
asyncpipe: 1
name: base
description: the base
paper: {title: A paper}
streams:
  forward: {runs: [F], priority: 1}
  backward: {runs: [B, U], count: 2}
in_flight: 3
rules: ["F[0, m] after U[*, g-4]"]
update: {every: 2, write: racy}
costs: {F: 1, B: 2}
expect: {stages: 3, period: 3}
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "base.yaml").write_text(BASE)
    return tmp_path


def extended(folder: Path, text: str, base: str = "sub/base.yaml") -> Schedule:
    (folder / "mine.yaml").write_text(f"asyncpipe: 1\nextends: {base}\n{text}")
    return load(folder / "mine.yaml")


def test_all_is_inherited_but_what_speaks_of_the_file_itself(folder: Path) -> None:
    found, base = extended(folder, ""), load(folder / "sub" / "base.yaml")
    assert (found.name, found.description, found.expect) == ("mine", "", None)
    assert (found.paper, found.streams, found.rules, found.update) == (
        base.paper,
        base.streams,
        base.rules,
        base.update,
    )


def test_mappings_are_merged_and_all_else_is_replaced(folder: Path) -> None:
    found = extended(
        folder,
        "streams:\n  backward: {count: 5}\n  side: {runs: [W]}\n"
        "rules: []\nupdate: {every: 4}\ncosts: {B: 7}\nname: other\n",
    )
    assert [(group.name, group.count, group.priority) for group in found.streams] == [
        ("forward", 1, 1),
        ("backward", 5, 0),
        ("side", 1, 0),
    ]
    assert (found.rules, found.update.every, found.update.write, found.name) == ((), 4, "racy", "other")
    assert [str(found.costs.of(op, 0)) for op in (Op.F, Op.B)] == ["1", "7"]


def test_null_removes_what_the_base_has(folder: Path) -> None:
    found = extended(folder, "in_flight: null\npaper: ~\nstreams: {forward: {priority: null}, backward: {count: }}\n")
    assert (found.in_flight, found.paper) == (None, None)
    assert [(group.count, group.priority) for group in found.streams] == [(1, 0), (1, 0)]


def test_chain_of_files_is_followed_from_each_ones_folder(folder: Path) -> None:
    (folder / "sub" / "middle.yaml").write_text("asyncpipe: 1\nextends: base.yaml\nupdate: {every: 3}\nname: middle\n")
    found = extended(folder, "update: {write: atomic}\n", "sub/middle.yaml")
    assert (found.update.every, found.update.write, found.name) == (3, "atomic", "mine")


def test_files_that_the_base_names_lie_beside_the_base(folder: Path) -> None:
    (folder / "sub" / "times.json").write_text('{"schema": "asyncpipe.profile/1", "costs": {"F": 5}}')
    (folder / "sub" / "order.csv").write_text("0F0,0F1,0B0,0B1\n")
    group = "{runs: [F, B, U], per: device, table: order.csv}"
    (folder / "sub" / "measured.yaml").write_text(f"asyncpipe: 1\nstreams: {{main: {group}}}\ncosts: times.json\n")
    found = extended(folder, "update: {every: 2}\n", "sub/measured.yaml")
    assert found.costs.of(Op.F, 0) == 5
    assert [" ".join(map(str, row)) for row in found.streams[0].table] == ["0F0 0F1 0B0 0B1"]


def test_library_is_extended_by_name(folder: Path) -> None:
    found, base = extended(folder, "in_flight: 7\n", "async-lu"), load("async-lu")
    assert (str(found.in_flight), found.streams) == ("7", base.streams)


def test_canonical_text_extends_nothing(folder: Path) -> None:
    found = extended(folder, "update: {every: 4}\n")
    (folder / "flat.yaml").write_text(str(found))
    assert load(folder / "flat.yaml") == found


def test_findings_stand_in_the_file_that_wrote_them(folder: Path) -> None:
    """The base is right; both findings are of lines that this file adds."""
    with pytest.raises(ScheduleError) as caught:
        extended(folder, "update: {every: 0}\nstreams: {forward: {runs: [X]}}\n")
    places = [(Path(d.where.file).name, d.where.line, d.code) for d in caught.value.diagnostics if d.where]
    assert sorted(places) == [("mine.yaml", 3, "AP105"), ("mine.yaml", 4, "AP112")]


def test_sixteen_files_in_a_row_are_enough(folder: Path) -> None:
    for i in range(30):
        (folder / f"s{i}.yaml").write_text(f"asyncpipe: 1\nextends: s{i + 1}.yaml\n")
    (folder / "s30.yaml").write_text(BASE)
    assert load(folder / "s15.yaml").update.every == 2
    with pytest.raises(ScheduleError) as caught:
        load(folder / "s0.yaml")
    assert [d.code for d in caught.value.diagnostics] == ["AP109"]

"""docs/metrics.md explains every key that a run writes, and no other."""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.command_line import invoke
from tests.docs.test_tables_of_the_format import code_words, rows, section

TEXT = (Path(__file__).parents[2] / "docs" / "metrics.md").read_text("utf-8")
COMMON = {"kind", "attempt", "step"}
LEAVES = {"target.reached"}
"""It has the keys of `best`."""


@pytest.fixture(scope="module", params=["serial", "threads"])
def run_folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder: Path = tmp_path_factory.mktemp("run") / request.param
    options = ("--stages", "3", "--steps", "60", "--measure-every", "9", "--target", "0.05", "--delay", "forward=1T")
    done = invoke("run", "async-lu", "--backend", request.param, *options, "--timed", "--out", str(folder), "--json")
    assert done.code == 0, done.stderr
    return folder


def documented(text: str) -> list[str]:
    return [word for cells in rows(text) for word in code_words(cells[0])]


def keys(value: Any, name: str = "") -> Iterator[str]:
    """Dotted names of all values; lists are values."""
    if not isinstance(value, dict) or name in LEAVES:
        yield name
        return
    for key, inner in value.items():
        yield from keys(inner, f"{name}.{key}".removeprefix("."))


def kinds() -> dict[str, str]:
    parts = re.split(r"^### (\w+)\n", section("metrics.jsonl", TEXT), flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def test_every_key_of_a_row_is_explained_and_no_other(run_folder: Path) -> None:
    found: dict[str, set[str]] = defaultdict(set)
    for line in (run_folder / "metrics.jsonl").read_text("utf-8").splitlines():
        row = json.loads(line)
        found[row["kind"]] |= row.keys()
    assert {kind: sorted(names - COMMON) for kind, names in found.items()} == {
        kind: sorted(documented(text)) for kind, text in kinds().items()
    }
    assert all(names > COMMON for names in found.values())


def test_every_key_of_the_summary_is_explained_and_no_other(run_folder: Path) -> None:
    found = set(keys(json.loads((run_folder / "summary.json").read_text("utf-8"))))
    explained = documented(section("summary.json", TEXT))
    # Where a part is null, as `virtual` on threads, its keys stand for it.
    assert found == {next((key for key in found if name.startswith(f"{key}.")), name) for name in explained}
    assert len(set(explained)) == len(explained)

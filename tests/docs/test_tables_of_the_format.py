"""The tables of the documents have what the program has: keys, ops, codes, options, and what cannot be trained yet."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from asyncpipe.cli.simulate import command as simulate
from asyncpipe.codes import catalog
from asyncpipe.compiler import compile_schedule
from asyncpipe.errors import Report
from asyncpipe.ir import Op
from asyncpipe.schedule import load_text
from asyncpipe.tables.generate import NAMES
from asyncpipe.verify.trainable import slow_pushes, untrainable
from tests.docs.format_keys import FormatKey, format_keys
from tests.docs.replay import DOCUMENTS

DOCS = DOCUMENTS[0].parent
FORMAT = (DOCS / "schedule-format.md").read_text("utf-8")
STREAMS = "asyncpipe: 1\nstages: 3\nstreams:\n  worker: {runs: [F, B, U], count: 2}\n"


def section(title: str, text: str = FORMAT) -> str:
    """The text below a heading, up to the next one of its level."""
    found = re.search(rf"^## {re.escape(title)}\n(.*?)(?=^## |\Z)", text, re.MULTILINE | re.DOTALL)
    assert found is not None
    return found[1]


def rows(text: str) -> Iterator[list[str]]:
    """Yield the cells of each table row, without the head of its table."""
    for table in re.findall(r"^\|[-|]+\|\n((?:\|.*\n)+)", text, re.MULTILINE):
        for line in table.splitlines():
            yield [cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]]


def code_words(cell: str) -> list[str]:
    return re.findall(r"`([^`]+)`", cell)


KEYS = {(cells[0], code_words(cells[1])[0]): cells for cells in rows(section("All keys"))}


def test_table_has_every_key_of_the_format_and_no_other() -> None:
    assert sorted(KEYS) == sorted((key.place, key.name) for key in format_keys())


@pytest.mark.parametrize("key", list(format_keys()), ids=lambda key: f"{key.place}.{key.name}")
def test_row_of_a_key_states_its_default_and_its_values(key: FormatKey) -> None:
    _, _, kind, default, _ = KEYS[key.place, key.name]
    assert default.strip("`") == key.default
    assert key.words <= set(re.findall(r"[\w.-]*\w", kind))


def test_top_keys_stand_in_the_order_of_the_format() -> None:
    named = [name for place, name in KEYS if place == "top"]
    assert named == [key.name for key in format_keys() if key.place == "top"]


def test_table_of_operations_has_every_op() -> None:
    assert {op for cells in rows(section("Operations")) for op in code_words(cells[0])} == set(Op)


def test_named_tables_are_listed() -> None:
    listed = section("Order in a stream").partition("By name")[2].partition("```")[0]
    assert set(NAMES) == set(code_words(listed)) - {"runs: [F, I, W, U]"}


def test_refused_combinations_have_every_code() -> None:
    listed = [re.findall(r"AP\d{3}", cells[0])[0] for cells in rows(section("Refused combinations"))]
    assert listed == [page.code for page in catalog() if page.code.startswith("AP6")]


REFUSED = {
    "weights.backward: private": """
streams:
  forward:   {runs: [F]}
  again:     {runs: [R]}
  backward:  {runs: [B, U]}
in_flight: 3
weights: {backward: private}
recompute: full
""",
    "transfers of parameters that take time (costs SEND)": """
devices: 2
place: 1
streams:
  forward:  {runs: [F], device: 0}
  backward: {runs: [B, U], device: 1}
in_flight: 3
costs: {SEND: 1/4}
""",
}


@pytest.mark.parametrize(("words", "text"), REFUSED.items(), ids=list(REFUSED))
def test_what_cannot_be_trained_is_listed_and_refused(words: str, text: str) -> None:
    schedule = load_text(f"asyncpipe: 1{text}", "example.yaml", Report())
    assert schedule is not None
    compiled = compile_schedule(schedule, 3)
    found = [*untrainable(schedule), *slow_pushes(compiled)]
    assert [words in diagnostic.message for diagnostic in found] == [True]


def test_each_listed_refusal_is_tried() -> None:
    assert len(list(rows(section("What `run` cannot train yet")))) == len(REFUSED)


def test_expected_versions_are_asserted_unless_the_document_says_not_yet() -> None:
    from asyncpipe.compiler import check_expect

    report = Report()
    rules = 'rules: ["F[0, m] after U[*, g-1]"]\n'
    schedule = load_text(f"{STREAMS}{rules}expect: {{stages: 3, versions: [9, 9, 9]}}", "example.yaml", report)
    assert schedule is not None
    check_expect(schedule, report)
    assert report.has_errors is ("not asserted yet" not in KEYS["expect", "versions"][4])


def test_simulate_lists_every_option() -> None:
    options = {parameter.opts[-1] for parameter in simulate.params if parameter.param_type_name == "option"}
    text = (DOCS / "simulate.md").read_text("utf-8").partition("## ")[0]
    assert {re.findall(r"--?\w+", cells[0])[0] for cells in rows(text)} == options


def anchors(text: str) -> set[str]:
    """The names that links can end with: what GitHub makes of headings, and explicit ones."""
    headings = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    return set(re.findall(r'<a id="([^"]+)">', text)) | {
        re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings
    }


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.stem)
def test_links_lead_somewhere(document: Path) -> None:
    text = document.read_text("utf-8")
    links = re.findall(r"\]\(([\w./-]*)(?:#([\w-]+))?\)", text)
    assert links
    for file, anchor in links:
        target = document.parent / file if file else document
        assert target.exists(), file
        assert not anchor or anchor in anchors(target.read_text("utf-8")), f"{file}#{anchor}"


def test_readme_leads_to_every_document() -> None:
    readme = (DOCS.parent / "README.md").read_text("utf-8")
    assert [path.name for path in DOCUMENTS if f"(docs/{path.name})" not in readme] == []

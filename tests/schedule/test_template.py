"""A new schedule from the text of another: every other character stays, and it reads back as the same schedule."""

from __future__ import annotations

from dataclasses import replace

import pytest

from asyncpipe.schedule import library, load, load_text
from asyncpipe.schedule.source import Report
from asyncpipe.schedule.template import EDITOR_LINE, begin_from

REST = "streams: {main: {runs: [F, B, U]}}\n"


def begun(
    text: str, name: str = "mine", description: str = "What it does.", moved: dict[str, str] | None = None
) -> str:
    return begin_from(text, name, description, ("# first",), lambda value: (moved or {}).get(value))


@pytest.mark.parametrize("name", library())
def test_library_schedule_is_the_same_under_another_name(name: str) -> None:
    text = begun(library()[name].read_text("utf-8"))
    report = Report()
    schedule = load_text(text, "mine.yaml", report)
    assert report.diagnostics == []
    assert schedule == replace(load(name), name="mine", description="What it does.")


@pytest.mark.parametrize("name", library())
def test_comments_and_layout_of_the_template_stay(name: str) -> None:
    before = library()[name].read_text("utf-8").splitlines()
    after = begun("\n".join(before) + "\n").splitlines()
    assert after[0] == "# first"
    changed = [(old, new) for old, new in zip(before, after[1:], strict=True) if old != new]
    assert [new for _, new in changed] == ["name: mine", "description: What it does."]


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("asyncpipe: 1\nname: old   # why\n", "asyncpipe: 1\nname: mine   # why\ndescription: What it does.\n"),
        ("asyncpipe: 1\nname: 'old'\n", "asyncpipe: 1\nname: mine\n"),
        ('asyncpipe: 1\nname: "an\n  old one"\n', "asyncpipe: 1\nname: mine\n"),
        (
            "asyncpipe: 1\ndescription: >\n  several\n  lines\n",
            "asyncpipe: 1\nname: mine\ndescription: What it does.\n",
        ),
        ("asyncpipe: 1\ndescription: plain\n  on two lines\n", "description: What it does.\n"),
        ("asyncpipe: 1   # the format\n", "asyncpipe: 1   # the format\nname: mine\ndescription: What it does.\n"),
        ("---\nasyncpipe: 1\n", "---\nasyncpipe: 1\nname: mine\n"),
        ("  asyncpipe: 1\n  ", "  asyncpipe: 1\n  name: mine\n  description: What it does.\n  "),
        ("# no name: here\nasyncpipe: 1\n", "# no name: here\nasyncpipe: 1\nname: mine\n"),
    ],
)
def test_name_and_description_are_replaced_or_added(before: str, after: str) -> None:
    text = begun(before + REST)
    assert after in text
    schedule = load_text(text, "mine.yaml", Report())
    assert schedule is not None
    assert (schedule.name, schedule.description) == ("mine", "What it does.")
    assert text.endswith(REST)


@pytest.mark.parametrize(
    "before",
    [
        "{asyncpipe: 1, streams: {main: {runs: [F, B, U]}}}",
        "{streams: {main: {runs: [F, B, U]}}, asyncpipe: 1, name: old}",
        REST + "asyncpipe: 1",
        "asyncpipe: 1\r\nname: old\r\n" + REST.replace("\n", "\r\n"),
        "extends: sgd\n",
    ],
)
def test_other_layouts_are_kept_too(before: str) -> None:
    text = begun(before)
    assert "old" not in text
    assert text.count("mine") == text.count("What it does.") == 1
    if "extends" not in before:
        schedule = load_text(text, "mine.yaml", Report())
        assert schedule is not None
        assert (schedule.name, schedule.description) == ("mine", "What it does.")


def test_line_ends_stay() -> None:
    text = begun("asyncpipe: 1\r\n" + REST.replace("\n", "\r\n"))
    assert text.count("\r\n") == text.count("\n") == 5


@pytest.mark.parametrize("name", ["123", "true", "null", "1e3", "0x1F", "no", "a-b_c"])
def test_name_is_a_text_whatever_it_looks_like(name: str) -> None:
    schedule = load_text(begun("asyncpipe: 1\nname: old\n" + REST, name), "mine.yaml", Report())
    assert schedule is not None
    assert schedule.name == name


@pytest.mark.parametrize("description", ["a: b # c", '"quoted" \\ text', "- item", "Ünïcode, [x]", "{}", "'"])
def test_description_is_quoted_where_yaml_needs_it(description: str) -> None:
    for template in ("asyncpipe: 1\n" + REST, "{asyncpipe: 1, streams: {main: {runs: [F, B, U]}}}"):
        schedule = load_text(begun(template, description=description), "mine.yaml", Report())
        assert schedule is not None
        assert schedule.description == description


def test_editor_line_of_the_template_is_replaced() -> None:
    line = f"{EDITOR_LINE}asyncpipe-schema.json"
    text = begin_from(
        f"#yaml-language-server: $schema=old.json\n{line}\nasyncpipe: 1\n", "a", "b", (line,), lambda value: None
    )
    assert text == f"{line}\nasyncpipe: 1\nname: a\ndescription: b\n"


def test_values_that_name_files_are_moved_but_no_texts() -> None:
    moved = {"costs.json": "../costs.json", "a.csv": "with blank/a.csv", "name.csv": "wrong"}
    template = (
        "asyncpipe: 1\nname: name.csv\npaper: {title: name.csv}\ncosts: costs.json # measured\n"
        "streams:\n  main: {runs: [F], table: 'a.csv', order: [F]}\n  costs.json: {}\n"
    )
    assert begun(template, moved=moved) == (
        "# first\nasyncpipe: 1\nname: mine\ndescription: What it does.\npaper: {title: name.csv}\n"
        "costs: ../costs.json # measured\nstreams:\n  main: {runs: [F], table: with blank/a.csv, order: [F]}\n"
        "  costs.json: {}\n"
    )

"""YAML text to nodes: values by YAML 1.2, places, what is refused, and overrides."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asyncpipe.errors import Diagnostic, Position, ScheduleError, UsageError
from asyncpipe.schedule import apply_overrides, load
from asyncpipe.schedule.job import plain
from asyncpipe.schedule.source import MAX_BYTES, Mapping, Node, Report, Scalar, Sequence, parse_text, read_file

FILE = "mine.yaml"


def parse(text: str) -> Node:
    report = Report()
    node = parse_text(text, FILE, report)
    assert report.diagnostics == []
    assert node is not None
    return node


def value(text: str) -> object:
    node = parse(f"key: {text}\n")
    assert isinstance(node, Mapping)
    scalar = node.get("key")
    assert isinstance(scalar, Scalar)
    return scalar.value


def findings(text: str) -> list[tuple[str, int, int]]:
    report = Report()
    assert parse_text(text, FILE, report) is None
    return [(d.code, d.where.line, d.where.column) for d in report.diagnostics if d.where]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("1", 1),
        ("-7", -7),
        ("+7", 7),
        ("007", 7),
        ("0o17", 15),
        ("0x1F", 31),
        ("1e-3", 0.001),
        ("1E3", 1000.0),
        (".5", 0.5),
        ("5.", 5.0),
        ("-1.5e+2", -150.0),
        ("true", True),
        ("True", True),
        ("FALSE", False),
        ("", None),
        ("~", None),
        ("null", None),
        ("Null", None),
        ("1:2", "1:2"),
        ("12:30:45", "12:30:45"),
        ("yes", "yes"),
        ("No", "No"),
        ("on", "on"),
        ("off", "off"),
        ("y", "y"),
        ("0b11", "0b11"),
        ("0o8", "0o8"),
        ("1_000", "1_000"),
        ("1/3", "1/3"),
        ("tRue", "tRue"),
        ("nULL", "nULL"),
        ("1e", "1e"),
        (".", "."),
        ("-", None),
        ("2024-01-01", "2024-01-01"),
        ("'1'", "1"),
        ('"true"', "true"),
        ("''", ""),
        ("'it''s'", "it's"),
        (r'"a\tbA"', "a\tbA"),
        ("plain text  # comment", "plain text"),
        ("F[0, m] after U[*, g-1]", "F[0, m] after U[*, g-1]"),
    ],
)
def test_scalar_has_its_value_of_yaml_1_2(text: str, expected: object) -> None:
    if text == "-":
        node = parse("key:\n  -\n")
        assert plain(node) == {"key": [None]}
        return
    assert value(text) == expected
    assert type(value(text)) is type(expected)


def test_folded_and_literal_texts_are_read() -> None:
    node = parse("a: >-\n  one\n  two\nb: |\n  one\n  two\nc: one\n  two\n")
    assert plain(node) == {"a": "one two", "b": "one\ntwo\n", "c": "one two"}


@given(st.integers())
def test_any_integer_is_read_or_is_a_float(number: int) -> None:
    assert value(str(number)) == number


def test_huge_integers_do_not_fail() -> None:
    assert value("9" * 999) == int("9" * 999)
    assert value("9" * 5000) == float("inf")


def test_nodes_know_their_places() -> None:
    node = parse("a: [1, 'two']\nbee:\n  c: {d: }\n")
    assert isinstance(node, Mapping)
    (a, ones), (bee, inner) = node.items
    assert a.where == Position(FILE, 1, 1, 1)
    assert bee.where == Position(FILE, 2, 1, 3)
    assert isinstance(ones, Sequence)
    assert ones.where == Position(FILE, 1, 4, 1)
    assert [item.where for item in ones.items] == [Position(FILE, 1, 5, 1), Position(FILE, 1, 8, 5)]
    assert isinstance(inner, Mapping)
    assert inner.where == Position(FILE, 3, 3, 1)


@pytest.mark.parametrize(
    ("text", "where"),
    [
        ("key: F[0, m]", Position(FILE, 1, 8, 2)),
        ("key: 'F[0, m]'", Position(FILE, 1, 9, 2)),
        ('key: "F[0, m]"', Position(FILE, 1, 9, 2)),
        (r'key: "F[0,\x20m]"', Position(FILE, 1, 6, 12)),
        ("key: F[0,\n  m]", Position(FILE, 1, 6, 1)),
        ("key: >-\n  F[0, m]", Position(FILE, 1, 6, 1)),
    ],
)
def test_part_of_a_scalar_has_its_place_where_the_text_is_as_written(text: str, where: Position) -> None:
    node = parse(text)
    assert isinstance(node, Mapping)
    scalar = node.get("key")
    assert isinstance(scalar, Scalar)
    assert scalar.text == "F[0, m]"
    assert scalar.at(2, 2) == where


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("", [("AP100", 1, 1)]),
        ("# only a comment\n", [("AP100", 1, 1)]),
        ("---\n...\n---\na: 1\n", [("AP102", 3, 1)]),
        ("a: 1\n---\nb: 2\n", [("AP102", 2, 1)]),
        ("a: &x 1\n", [("AP102", 1, 4)]),
        ("a: *x\n", [("AP102", 1, 4)]),
        ("a: !!str 1\n", [("AP102", 1, 4)]),
        ("!x\na: 1\n", [("AP102", 1, 1)]),
        ("%YAML 1.2\n---\na: 1\n", [("AP102", 2, 1)]),
        ("a: [1\n", [("AP101", 2, 1)]),
        ("a: 1\n b: 2\n", [("AP101", 2, 3)]),
        ("[" * 40 + "]" * 40, [("AP102", 1, 34)]),
        ('a: "\\ud800"\n', [("AP102", 1, 4)]),
    ],
)
def test_what_is_no_plain_data_is_refused(text: str, found: list[tuple[str, int, int]]) -> None:
    assert findings(text) == found


def test_duplicates_are_told_and_the_first_holds() -> None:
    report = Report()
    node = parse_text("a: 1\nb: {c: 1, 'c': 2}\na: 2\n", FILE, report)
    assert node is not None
    assert plain(node) == {"a": 1, "b": {"c": 1}}
    assert [(d.code, d.where.line, d.where.column) for d in report.diagnostics if d.where] == [
        ("AP103", 2, 11),
        ("AP103", 3, 1),
    ]


def test_keys_that_only_python_takes_for_equal_are_no_duplicates() -> None:
    assert plain(parse("{1: a, 1.0: b, true: c, '2': d}\n")) == {"1": "a", "1.0": "b", "true": "c", "2": "d"}


def test_report_tells_the_same_finding_once() -> None:
    report = Report()
    for line in (1, 1, 2):
        report.error("AP100", "wrong", Position(FILE, line, 1))
    report.add(Diagnostic("AP100", "wrong", Position(FILE, 2, 1)))
    assert [d.where.line for d in report.diagnostics if d.where] == [1, 2]
    assert report.has_errors


def test_file_of_the_largest_size_is_read(tmp_path: Path) -> None:
    report = Report()
    (tmp_path / "a.yaml").write_bytes(b"#" * MAX_BYTES)
    assert read_file(tmp_path / "a.yaml", report) == "#" * MAX_BYTES
    (tmp_path / "b.yaml").write_bytes(b"#" * (MAX_BYTES + 1))
    assert read_file(tmp_path / "b.yaml", report) is None
    assert [d.code for d in report.diagnostics] == ["AP100"]


@pytest.mark.parametrize(
    ("overrides", "expected"),
    [
        (["a=2"], {"a": 2, "b": {"c": [1]}}),
        (["b.c=[3, 4]"], {"a": 1, "b": {"c": [3, 4]}}),
        (["b.d.e=x=y"], {"a": 1, "b": {"c": [1], "d": {"e": "x=y"}}}),
        (["a.b=1e-3"], {"a": {"b": 0.001}, "b": {"c": [1]}}),
        (["a={x: 1}", "a.y='2'"], {"a": {"x": 1, "y": "2"}, "b": {"c": [1]}}),
        (["a="], {"b": {"c": [1]}}),
        (["new-key=yes"], {"a": 1, "b": {"c": [1]}, "new-key": "yes"}),
        (["job.x=1", "a=2"], {"a": 2, "b": {"c": [1]}}),
        (["job=digits"], {"a": 1, "b": {"c": [1]}, "job": "digits"}),
    ],
)
def test_overrides_set_keys(overrides: list[str], expected: dict[str, object]) -> None:
    report = Report()
    assert plain(apply_overrides(parse("a: 1\nb: {c: [1]}\n"), overrides, report)) == expected
    assert report.diagnostics == []


def test_job_takes_only_its_own_overrides_and_findings_say_which() -> None:
    report = Report()
    node = apply_overrides(parse("a: 1\n"), ["a=2", "job.a=3", "job.b=[", "job.c.d=4"], report, "job.")
    assert plain(node) == {"a": 3, "c": {"d": 4}}
    (finding,) = report.diagnostics
    assert finding.where is not None
    assert finding.where.file == "<-o job.b=[>"


@pytest.mark.parametrize("override", ["a", "=1", "a b=1", "a.=1", "a..b=1", "a/b=1"])
def test_override_without_a_key_is_a_usage_error(override: str) -> None:
    with pytest.raises(UsageError, match="expected key=value"):
        apply_overrides(parse("a: 1\n"), [override], Report())


def test_overrides_pass_the_same_checks_as_the_file() -> None:
    assert str(load("async-lu", ["in_flight=7"]).in_flight) == "7"
    with pytest.raises(ScheduleError) as caught:
        load("async-lu", ["in_flight=7", "update.write=rascy"])
    assert str(caught.value) == (
        "<-o update.write=rascy>:1:1: error[AP105]: expected one of ordered, racy, atomic, overwrite,"
        " found the text 'rascy'\n  help: did you mean 'racy'?"
    )

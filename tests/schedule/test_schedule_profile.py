"""Files of measured costs: what is read from them, and every way in which they are wrong."""

from __future__ import annotations

import json
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest

from asyncpipe.errors import Position, Report
from asyncpipe.schedule import Costs
from asyncpipe.schedule.profile import PROFILE_SCHEMA, is_profile, read_profile


def written(folder: Path, text: str) -> Path:
    path = folder / "profile.json"
    path.write_text(text)
    return path


def findings(path: Path, named: Position | None = None) -> list[str]:
    report = Report()
    assert read_profile(path, report, named) is None
    return [f"{d.where} {d.code} {d.message}{f' ({d.hint})' if d.hint else ''}" for d in report.diagnostics]


def of(folder: Path, costs: Any, **more: Any) -> Path:
    return written(folder, json.dumps({"schema": PROFILE_SCHEMA, "costs": costs, **more}))


def test_costs_are_read_exactly_and_further_keys_do_not_matter(tmp_path: Path) -> None:
    path = of(tmp_path, {"B": [0.25, 1e-3], "F": 2, "SEND": [1e-99, 1]}, device="cpu", stages=[{"name": "a"}])
    report = Report()
    assert read_profile(path, report) == Costs(
        (("B", (Fraction(1, 4), Fraction(1, 1000))), ("F", (Fraction(2),)), ("SEND", (Fraction(0), Fraction(1))))
    )
    assert report.diagnostics == []


def test_times_count_in_picoseconds(tmp_path: Path) -> None:
    found = read_profile(of(tmp_path, {"F": [1.23456789012345678e-5]}), Report())
    assert found == Costs((("F", (Fraction(12345679, 10**12),)),))


@pytest.mark.parametrize(("text", "answer"), [("a.json", True), ("x/y.json", True), ("F=1", False), ("json", False)])
def test_name_of_a_file_is_told_from_costs(text: str, answer: bool) -> None:
    assert is_profile(text) is answer


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "1:1 AP101 JSON syntax: expecting value"),
        ('{"schema":\n  x}', "2:3 AP101 JSON syntax: expecting value"),
        ("[1]", "1:1 AP105 expected a profile, a JSON object, found a list"),
        ('{"schema": 1, "schema": 1}', "1:1 AP103 the key 'schema' stands twice"),
    ],
)
def test_text_that_is_no_profile_is_refused(tmp_path: Path, text: str, expected: str) -> None:
    path = written(tmp_path, text)
    assert findings(path) == [f"{path}:{expected}"]


def test_every_wrong_value_is_told_with_its_key_and_place(tmp_path: Path) -> None:
    text = (
        '{"schema": "asyncpipe.profile/2",\n'
        ' "costs": {\n'
        '   "F": [1, -2, true],\n'
        '   "B": "fast",\n'
        '   "X": 1, "U": [],\n'
        '   "I": 1e99, "W": NaN, "R": 1e999999999}}\n'
    )
    path = written(tmp_path, text)
    number = "expected a number of seconds from 0 to 1e12, found"
    assert findings(path) == [
        f'{path}:1:12 AP105 expected "schema": "{PROFILE_SCHEMA}", found "asyncpipe.profile/2" (is it the right file?)',
        f"{path}:3:13 AP105 costs.F[1]: {number} -2",
        f"{path}:3:17 AP105 costs.F[2]: {number} true",
        f'{path}:4:9 AP105 costs.B: {number} "fast"',
        f"{path}:5:9 AP104 unknown op 'X' in costs (expected one of: F, B, I, W, U, R, SEND, SYNC)",
        f"{path}:5:17 AP105 costs.U: expected a list with one number for each stage",
        f"{path}:6:9 AP105 costs.I: {number} 1e+99",
        f'{path}:6:20 AP105 costs.W: {number} "NaN"',
        f"{path}:6:30 AP105 costs.R: {number} Infinity",
    ]


def test_lists_of_different_lengths_contradict_each_other(tmp_path: Path) -> None:
    path = of(tmp_path, {"F": [1, 2], "B": [1, 2, 3], "U": [0]})
    assert findings(path) == [
        f"{path}:1:63 AP105 costs of F are for 2 stages, those of B for 3 (each list has one number for each stage)"
    ]


def test_missing_costs_are_told(tmp_path: Path) -> None:
    path = written(tmp_path, json.dumps({"schema": PROFILE_SCHEMA}))
    assert findings(path) == [f'{path}:1:1 AP106 expected "costs": {{"F": [...], ...}}, found nothing']


def test_file_that_cannot_be_read_is_told_where_it_is_named(tmp_path: Path) -> None:
    here = Position("mine.yaml", 7, 8)
    missing = tmp_path / "none.json"
    hint = '(write {"schema": "asyncpipe.profile/1", "costs": {"F": 0.001, "B": [0.002, 0.003]}}, in seconds, into it)'
    assert findings(missing, here) == [
        f"mine.yaml:7:8 AP100 {missing}: cannot be read: No such file or directory {hint}"
    ]
    assert findings(missing) == [f"{missing}:1:1 AP100 cannot be read: No such file or directory {hint}"]
    assert findings(tmp_path) == [f"{tmp_path}:1:1 AP100 cannot be read: Is a directory {hint}"]
    odd = tmp_path / "odd.json"
    odd.write_bytes(b"\xff")
    assert findings(odd) == [f"{odd}:1:1 AP100 expected UTF-8 text (save the file as UTF-8)"]
    odd.write_bytes(b" " * (4 * 1024 * 1024 + 1))
    assert findings(odd) == [f"{odd}:1:1 AP100 expected a profile, found more than 4,194,304 bytes"]


def test_profiles_of_many_stages_are_read_and_their_errors_named(tmp_path: Path) -> None:
    times = [0.001] * 20_000
    assert read_profile(of(tmp_path, {"F": times, "B": times}), Report()) is not None
    path = of(tmp_path, {"F": [*times[:-1], -1], "B": times})
    assert findings(path) == [f"{path}:1:1 AP105 costs.F[19999]: expected a number of seconds from 0 to 1e12, found -1"]

"""Trials that were run stay known, whatever happens to the process that ran them."""

from __future__ import annotations

import json
from pathlib import Path

from asyncpipe.tools.tune.journal import Journal


def test_results_are_found_again_by_another_process(tmp_path: Path) -> None:
    file = tmp_path / "new" / "trials.jsonl"
    Journal(file).put({"round": 0, "threads": 1}, {"speeds": [1.0]})
    assert Journal(file).get({"threads": 1, "round": 0}) == {"speeds": [1.0]}
    assert Journal(file).get({"round": 1, "threads": 1}) is None


def test_line_that_was_cut_off_is_ignored_and_the_next_one_is_whole(tmp_path: Path) -> None:
    file = tmp_path / "trials.jsonl"
    journal = Journal(file)
    journal.put({"round": 0}, {"speeds": [1.0]})
    journal.put({"round": 1}, {"speeds": [2.0]})
    whole = file.read_bytes()
    file.write_bytes(whole[:-9])
    cut = Journal(file)
    assert (cut.get({"round": 0}), cut.get({"round": 1}), len(cut)) == ({"speeds": [1.0]}, None, 1)
    cut.put({"round": 1}, {"speeds": [3.0]})
    assert file.read_bytes().startswith(whole[:-9])  # it only grows
    again = Journal(file)
    assert (again.get({"round": 0}), again.get({"round": 1})) == ({"speeds": [1.0]}, {"speeds": [3.0]})


def test_later_result_of_a_key_counts(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "trials.jsonl")
    journal.put({"round": 0}, {"failed": "hang"})
    journal.put({"round": 0}, {"speeds": [1.0]})
    assert Journal(journal.path).get({"round": 0}) == {"speeds": [1.0]}
    assert [json.loads(line)["key"] for line in journal.path.read_text().splitlines()] == [{"round": 0}] * 2


def test_lines_that_are_no_results_are_ignored(tmp_path: Path) -> None:
    file = tmp_path / "trials.jsonl"
    file.write_text('[]\n{"key": 1}\nnull\n\n{"key": {"a": 1}, "result": {"b": 2}}\n\xff\n', "latin-1")
    assert Journal(file).get({"a": 1}) == {"b": 2}

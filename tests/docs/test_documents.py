"""The documents say what the tool does: every schedule is compiled, every command is run, every output compared."""

from __future__ import annotations

from difflib import unified_diff
from pathlib import Path

import pytest

from tests.docs.blocks import blocks, is_whole
from tests.docs.replay import DOCUMENTS, chapters, replayed

CHAPTERS = [(path.stem, number) for path in DOCUMENTS for number in range(len(chapters(path)))]
LANGUAGES = {"yaml", "text", "console", "csv", "json", "python"}
every_document = pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.stem)

SCHEDULE = """```yaml
# mine.yaml
asyncpipe: 1
stages: 2
streams:
  main: {runs: [F, B, U]}
rules: ["F[0, m] after U[*, g-1]"]
```
"""


@pytest.mark.parametrize(("document", "number"), CHAPTERS)
def test_outputs_of_the_chapter_are_what_the_commands_say(document: str, number: int, tmp_path: Path) -> None:
    path = next(path for path in DOCUMENTS if path.stem == document)
    text = chapters(path)[number]
    now = replayed(text, tmp_path)
    difference = list(unified_diff(text.splitlines(), now.splitlines(), str(path.name), "as said now", lineterm=""))
    assert difference == [], "\n".join(difference)


@every_document
def test_every_block_is_of_a_kind_that_is_played(document: Path) -> None:
    found = list(blocks(document.read_text("utf-8")))
    assert {block.language for block in found} <= LANGUAGES
    assert document.read_text("utf-8").count("\n```") == 2 * len(found)
    wholes = [block for block in found if is_whole(block)]
    assert all("\nasyncpipe: 1" in f"\n{block.text}" for block in wholes)


@every_document
def test_prose_keeps_to_the_width(document: Path) -> None:
    text = document.read_text("utf-8")
    shown = "".join(block.text for block in blocks(text))
    assert [line for line in text.splitlines() if len(line) > 120 and line[0] != "|" and line not in shown] == []


def test_wrong_output_is_found_and_mended(tmp_path: Path) -> None:
    text = SCHEDULE + "```text\nperiod      7 per microbatch, 1.00x one stream\n```\n"
    assert replayed(text, tmp_path) == text.replace("period      7", "period      6")


def cut_check(period: str, about: str = "") -> str:
    """A document that shows one line of a command."""
    line = f"  period      {period} microbatch, 1.00x one stream"
    return f"{SCHEDULE}```console{about}\n$ asyncpipe check mine.yaml\n[...]\n{line}\n[...]\n```\n"


def test_wrong_output_of_a_command_is_found_and_mended(tmp_path: Path) -> None:
    assert replayed(cut_check("6 per"), tmp_path) == cut_check("6 per")
    assert replayed(cut_check("8 per"), tmp_path) == cut_check("6 per")


def test_cut_that_leaves_out_nothing_is_removed(tmp_path: Path) -> None:
    text = SCHEDULE + "```console\n$ asyncpipe check mine.yaml\n[...]\nmine.yaml: ok\n[...]\n```\n"
    assert "$ asyncpipe check mine.yaml\nmine.yaml: ok\n[...]\n" in replayed(text, tmp_path)


def test_numbers_may_differ_where_the_block_says_about(tmp_path: Path) -> None:
    assert replayed(cut_check("77 per", " about"), tmp_path) == cut_check("77 per", " about")
    assert replayed(cut_check("77 for", " about"), tmp_path) == cut_check("6 per", " about")


def test_schedule_that_is_refused_must_be_marked(tmp_path: Path) -> None:
    wrong = SCHEDULE.replace("[F, B, U]", "[F, U]")
    with pytest.raises(ValueError, match="exit code 3"):
        replayed(wrong, tmp_path)
    assert replayed(wrong.replace("```yaml", "```yaml refused"), tmp_path)


def test_schedule_that_is_valid_must_not_be_marked_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="exit code 0"):
        replayed(SCHEDULE.replace("```yaml", "```yaml refused"), tmp_path)

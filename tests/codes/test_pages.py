"""The pages of the diagnostic codes: complete, and true to the last character of their examples."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from asyncpipe.codes import GROUPS, Page, catalog, document, find
from tests.codes.machines import EXIT_CODES, machine
from tests.codes.update_pages import ANSWERS, BOOK, ROOT, answer, blocks, file_of, play, sections, update

HEADINGS = ["Meaning", "Why it is an error", "Example", "How to mend it"]
LINE = 120
every_page = pytest.mark.parametrize("page", catalog(), ids=lambda page: page.code)
every_mended_page = pytest.mark.parametrize(
    "page",
    # On AP7xx these train.
    [pytest.param(page, marks=pytest.mark.slow if page.group == "AP7xx" else ()) for page in catalog()],
    ids=lambda page: page.code,
)


def raised_codes() -> Iterator[str]:
    """Yield the codes in the sources, the linked folders included, but for the pages' own package."""
    for folder, _, names in os.walk(ROOT / "asyncpipe", followlinks=True):
        for path in (Path(folder, name) for name in names if name.endswith(".py")):
            if path.parent.name != "codes":
                yield from re.findall(r'"(AP\d{3})"', path.read_text("utf-8"))


def test_every_code_has_a_page_and_every_page_a_code() -> None:
    raised = set(raised_codes())
    assert {"AP101", "AP201", "AP501"} <= raised
    assert [page.code for page in catalog()] == sorted(raised)


@every_page
def test_page_has_its_parts_in_order(page: Page) -> None:
    assert re.fullmatch(r"# AP\d{3}: \S.{4,70}[^.]", page.text.partition("\n")[0])
    assert page.group in GROUPS
    assert list(sections(page.text)) == HEADINGS
    assert all(part.strip() for part in sections(page.text).values())
    assert page.text.endswith("\n")
    assert not page.text.endswith("\n\n")


@every_page
def test_page_refers_to_other_codes_that_exist(page: Page) -> None:
    last = page.text.rstrip().rpartition("\n\n")[2]
    assert re.fullmatch(r"See also: AP\d{3}(, AP\d{3})*\.", last)
    others = re.findall(r"AP\d{3}", last)
    assert others == sorted(set(others) - {page.code})
    assert set(re.findall(r"AP\d{3}", page.text)) <= {other.code for other in catalog()}


@every_page
def test_prose_and_files_keep_to_the_width(page: Page) -> None:
    said = "".join(block.text for block in blocks(page.text) if block.language in ANSWERS)
    assert [line for line in page.text.splitlines() if len(line) > LINE and line not in said] == []


@every_page
def test_example_gets_exactly_the_message_of_the_page(
    page: Page, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with machine(page.code):
        played = list(play(sections(page.text)["Example"]))
    assert played
    for block, outcome, answered in played:
        assert (outcome.code, answered) == (EXIT_CODES.get(page.code, 3), block)
        assert set(re.findall(r"error\[(AP\d{3})\]: ", block.text)) == {page.code}


@every_mended_page
def test_mended_example_is_accepted(page: Page, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By the command of the example, for each file that the page offers; or the page names another command."""
    monkeypatch.chdir(tmp_path)
    parts = sections(page.text)
    question = [block for block in blocks(parts["Example"]) if block.language in ANSWERS][-1]
    mended = list(blocks(parts["How to mend it"]))
    assert mended
    for block in blocks(parts["Example"]):
        if block.language not in ANSWERS:
            file_of(block).write_text(block.text, "utf-8")
    for block in mended:
        if block.language not in ANSWERS:
            file_of(block).write_text(block.text, "utf-8")
        with machine(page.code):
            outcome, _ = answer(block if block.language in ANSWERS else question)
        assert outcome.code == 0, outcome.stderr
        assert "error[" not in outcome.stderr


def test_document_is_made_from_the_pages() -> None:
    assert BOOK.read_text("utf-8") == document()


def test_document_has_every_page_once_and_its_contents_lead_there() -> None:
    text = document()
    linked = re.findall(r"^\| \[(AP\d{3})\]\(#(ap\d{3})\) \| (.+) \|$", text, re.MULTILINE)
    pages = catalog()
    assert linked == [(page.code, page.code.lower(), page.title) for page in pages]
    assert re.findall(r'^<a id="(.+)"></a>\n\n### (.+)$', text, re.MULTILINE) == [
        (page.code.lower(), f"{page.code}: {page.title}") for page in pages
    ]
    assert text.count("\n#### Example\n") == len(pages)
    assert re.findall(r"^## (AP\dxx)", text, re.MULTILINE) == sorted({page.group for page in pages})


def test_document_keeps_the_blocks_of_the_pages_as_they_are() -> None:
    kept = [block for page in catalog() for block in blocks(page.text)]
    assert list(blocks(document())) == kept


def test_update_renews_what_an_example_gets_and_nothing_else(tmp_path: Path) -> None:
    copy = tmp_path / "page.md"
    for page in (find("AP201"), find("AP302")):
        said = next(block.text for block in blocks(page.text) if block.language in ANSWERS)
        old = f"{said.splitlines()[0]}\nan old message\n"
        copy.write_text(page.text.replace(said, old), "utf-8")
        assert copy.read_text("utf-8") != page.text
        update(copy)
        assert copy.read_text("utf-8") == page.text

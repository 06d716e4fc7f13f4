"""A page for each diagnostic code: what it means, an example that gets it, and how to mend it.

A page is the Markdown file of its code. `python -m asyncpipe.codes` prints all of them as one document.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple

from asyncpipe.errors import UsageError

__all__ = ["GROUPS", "Page", "catalog", "document", "find"]

GROUPS = {
    "AP1xx": "structure: what a file or a table says, and whether its parts fit together",
    "AP2xx": "order: schedules that cannot go on",
    "AP3xx": "events: records, waits, and the edges that they cover",
    "AP4xx": "memory: what the plan keeps, and what there is",
    "AP5xx": "asynchrony: forwards that run ahead, actions that starve, staleness that was not expected",
    "AP6xx": "meaning: parts that are each right and mean nothing together",
    "AP7xx": "hardware: what this machine cannot do",
}
_FOLDER = Path(__file__).parent
_INTRODUCTION = """# Diagnostic codes

Every finding of `asyncpipe check` has a code. The code of a kind of mistake stays the same from version to version;
the text may become better. `asyncpipe explain AP201` prints a page, `asyncpipe explain` lists them.

This file is made from the pages in `asyncpipe/codes` by `python -m asyncpipe.codes > docs/codes.md`. The examples are
run by the tests: each gets exactly the message that follows it, and is accepted once it is mended.
"""


class Page(NamedTuple):
    """What is to be said about one code; `text` is the whole Markdown with its title line."""

    code: str
    title: str
    text: str

    @property
    def group(self) -> str:
        """`AP2xx` for AP201."""
        return f"{self.code[:3]}xx"


def catalog() -> tuple[Page, ...]:
    """Every page, by code."""
    return tuple(_read(path) for path in sorted(_FOLDER.glob("AP[0-9]*.md")))


def find(name: str) -> Page:
    """The page of `AP201`, `ap201` or `201`; UsageError with the nearest code for any other name."""
    number = re.fullmatch(r"(?:AP)?([0-9]{3})", name.strip(), re.IGNORECASE)
    if number is None:
        hint = "a code is AP and three digits, as in AP201; `asyncpipe explain` lists all of them"
        raise UsageError(f"expected a diagnostic code, found {name!r}", hint)
    path = _FOLDER / f"AP{number[1]}.md"
    if path.is_file():
        return _read(path)
    nearest = min(catalog(), key=lambda page: abs(int(page.code[2:]) - int(number[1])))
    hint = f"the nearest is {nearest.code} ({nearest.title}); `asyncpipe explain` lists all of them"
    raise UsageError(f"no diagnostic has the code AP{number[1]}", hint)


def _read(path: Path) -> Page:
    text = path.read_text("utf-8")
    code, _, title = text.partition("\n")[0].removeprefix("# ").partition(": ")
    return Page(code, title, text)


def document() -> str:
    """All pages as one Markdown document: the introduction, a table of contents, the pages by group."""
    pages = catalog()
    groups = [group for group in GROUPS if any(page.group == group for page in pages)]
    contents = "".join(_contents(group, pages) for group in groups)
    chapters = "".join(_chapter(group, pages) for group in groups)
    return f"{_INTRODUCTION}{contents}{chapters}"


def _contents(group: str, pages: tuple[Page, ...]) -> str:
    rows = [f"| [{page.code}](#{page.code.lower()}) | {page.title} |\n" for page in pages if page.group == group]
    return f"\n| {group} | {GROUPS[group]} |\n|---|---|\n{''.join(rows)}"


def _chapter(group: str, pages: tuple[Page, ...]) -> str:
    texts = [f'\n<a id="{page.code.lower()}"></a>\n\n{_lowered(page.text)}' for page in pages if page.group == group]
    return f"\n## {group}: {GROUPS[group].partition(':')[0]}\n{''.join(texts)}"


def _lowered(text: str) -> str:
    """The headings two levels down; a line of a fenced block that begins with # is none."""
    parts = re.split(r"(^```.*?^```$)", text, flags=re.MULTILINE | re.DOTALL)
    return "".join(part if part.startswith("```") else re.sub(r"^#", "###", part, flags=re.MULTILINE) for part in parts)

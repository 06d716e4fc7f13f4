"""Rewrites what the examples of the pages get, and docs/codes.md: `python -m tests.codes.update_pages`.

In a page, a fenced block `yaml`, `csv`, `python` or `l2` is the file example.yaml, example.csv, example.py or
example.l2. `console` is a command and what it says on stderr, for AP7xx on a machine of `machines.py`; `text` is what
reading example.l2 as a stream program says. Read the difference before you commit it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import chdir
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

from asyncpipe import codes
from asyncpipe.cli.diagnostics import render
from asyncpipe.errors import Report
from asyncpipe.verify.events import read_program
from tests.codes.machines import EXIT_CODES, machine
from tests.command_line import Outcome, invoke

__all__ = ["ANSWERS", "BOOK", "PAGES", "Block", "answer", "blocks", "file_of", "play", "sections", "update"]

ROOT = Path(__file__).parents[2]
PAGES = ROOT / "asyncpipe" / "codes"
BOOK = ROOT / "docs" / "codes.md"
ANSWERS = ("console", "text")
"""The languages of blocks that show an answer; the others are files."""
_BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_ANSWER = re.compile(r"^```(console|text)\n.*?^```$", re.MULTILINE | re.DOTALL)


class Block(NamedTuple):
    """A fenced block of a page."""

    language: str
    text: str


def sections(text: str) -> dict[str, str]:
    """The parts of a page by heading; the title and what it means come first, as `Meaning`."""
    parts = ["Meaning", *re.split(r"^## (.+)\n", text, flags=re.MULTILINE)]
    return dict(zip(parts[::2], parts[1::2], strict=True))


def blocks(text: str) -> Iterator[Block]:
    yield from (Block(*found) for found in _BLOCK.findall(text))


def answer(block: Block) -> tuple[Outcome, Block]:
    """What a block's command, or the program example.l2, gets in the current folder; the block as it should be."""
    if block.language == "text":
        outcome = _read_program("example.l2")
        return outcome, Block("text", outcome.stderr)
    prompt = block.text.partition("\n")[0]
    program, *arguments = prompt.removeprefix("$ ").split()
    assert program == "asyncpipe", prompt
    outcome = invoke(*arguments)
    return outcome, Block("console", f"{prompt}\n{outcome.stderr}")


def _read_program(file: str) -> Outcome:
    report = Report()
    read_program(Path(file).read_text("utf-8"), file, report)
    return Outcome(3 if report.has_errors else 0, "", render(report.diagnostics))


def file_of(block: Block) -> Path:
    """Where the text of a block belongs."""
    return Path(f"example.{'py' if block.language == 'python' else block.language}")


def play(text: str) -> Iterator[tuple[Block, Outcome, Block]]:
    """Writes the files of a section and runs its commands, in the order of the page and in the current folder."""
    for block in blocks(text):
        if block.language in ANSWERS:
            yield block, *answer(block)
        else:
            file_of(block).write_text(block.text, "utf-8")


def update(path: Path) -> None:
    """Puts what the files of the page's example get now below them."""
    text = path.read_text("utf-8")
    example = sections(text)["Example"]
    with TemporaryDirectory() as folder, chdir(folder), machine(path.stem):
        said = iter([_checked(path, outcome, block) for _, outcome, block in play(example)])
    renewed = _ANSWER.sub(lambda _: next(said), example)
    path.write_text(text.replace(example, renewed), "utf-8")


def _checked(path: Path, outcome: Outcome, block: Block) -> str:
    if outcome.code not in (0, EXIT_CODES.get(path.stem, 3)):
        raise ValueError(f"{path.name}: exit code {outcome.code}\n{block.text}")
    return f"```{block.language}\n{block.text}```"


def main() -> None:
    for path in sorted(PAGES.glob("*.md")):
        update(path)
    BOOK.write_text(codes.document(), "utf-8")


if __name__ == "__main__":
    main()

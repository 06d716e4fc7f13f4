"""Rewrites what the examples of the pages get, and docs/codes.md: `python -m tests.codes.update_pages`.

In a page, a fenced block `yaml` is the file example.yaml and `csv` is example.csv; `console` is a command and what it
says on stderr. Read the difference before you commit it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import chdir
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

from asyncpipe import codes
from tests.command_line import Outcome, invoke

__all__ = ["BOOK", "PAGES", "Block", "blocks", "play", "run", "sections", "update"]

ROOT = Path(__file__).parents[2]
PAGES = ROOT / "asyncpipe" / "codes"
BOOK = ROOT / "docs" / "codes.md"
_BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_CONSOLE = re.compile(r"^```console\n.*?^```$", re.MULTILINE | re.DOTALL)


class Block(NamedTuple):
    """A fenced block of a page."""

    language: str
    text: str

    @property
    def command(self) -> str:
        """The first line of a console block, without its prompt."""
        return self.text.partition("\n")[0].removeprefix("$ ")


def sections(text: str) -> dict[str, str]:
    """The parts of a page by heading; the title and what it means come first, as `Meaning`."""
    parts = ["Meaning", *re.split(r"^## (.+)\n", text, flags=re.MULTILINE)]
    return dict(zip(parts[::2], parts[1::2], strict=True))


def blocks(text: str) -> Iterator[Block]:
    yield from (Block(*found) for found in _BLOCK.findall(text))


def run(command: str) -> Outcome:
    """What `asyncpipe ...` says in the current folder."""
    program, *arguments = command.split()
    assert program == "asyncpipe", command
    return invoke(*arguments)


def play(text: str, folder: Path) -> Iterator[tuple[Block, Outcome]]:
    """Writes the files of a section and runs its commands, in the order of the page."""
    for block in blocks(text):
        if block.language != "console":
            (folder / f"example.{block.language}").write_text(block.text, "utf-8")
            continue
        with chdir(folder):
            yield block, run(block.command)


def update(path: Path) -> None:
    """Puts what `check` says now below the commands of the page's example."""
    text = path.read_text("utf-8")
    example = sections(text)["Example"]
    with TemporaryDirectory() as folder:
        said = iter([_said(path, block, outcome) for block, outcome in play(example, Path(folder))])
    renewed = _CONSOLE.sub(lambda _: f"```console\n{next(said)}```", example)
    path.write_text(text.replace(example, renewed), "utf-8")


def _said(path: Path, block: Block, outcome: Outcome) -> str:
    if outcome.code not in (0, 2, 3, 4):
        raise ValueError(f"{path.name}: {block.command}: exit code {outcome.code}\n{outcome.stderr}")
    return f"$ {block.command}\n{outcome.stderr}"


def main() -> None:
    for path in sorted(PAGES.glob("*.md")):
        update(path)
    BOOK.write_text(codes.document(), "utf-8")


if __name__ == "__main__":
    main()

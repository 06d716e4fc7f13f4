"""The fenced blocks of a document: the files that it shows, the commands, and what they say.

* `yaml` that begins with `asyncpipe:` is a whole schedule, the file `example.yaml`, or the one that its first line
  names: `# mine.yaml`. With `yaml refused` it has an error; `yaml fragment` is what a file that
  extends `async-lu` may have.
* `csv NAME` and `json NAME` are files; `python` is run.
* `text` holds lines of what `asyncpipe check` says of the file before it; a document leaves out the others.
* `console` holds commands after `$ `, each with all that it says. `[...]` on a line of its own stands for lines that
  are left out. With `console about` numbers may differ.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

__all__ = ["Block", "blocks", "file_name", "is_whole"]

_FENCE = re.compile(r"^```([^\n]*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_NAMED = re.compile(r"# ([\w-]+\.yaml)$")


@dataclass(frozen=True)
class Block:
    """`words` follow the fence; `start` and `end` enclose `text` in the document."""

    words: tuple[str, ...]
    text: str
    start: int
    end: int

    @property
    def language(self) -> str:
        return self.words[0] if self.words else ""


def blocks(document: str) -> Iterator[Block]:
    """Yield the fenced blocks of a document in order."""
    for match in _FENCE.finditer(document):
        yield Block(tuple(match[1].split()), match[2], match.start(2), match.end(2))


def is_whole(block: Block) -> bool:
    """Whether the block is a schedule, and not a part of one."""
    return block.language == "yaml" and "fragment" not in block.words


def file_name(block: Block) -> str:
    """The name of the file that a block shows."""
    if block.language != "yaml":
        return block.words[1]
    named = _NAMED.match(block.text.partition("\n")[0])
    return named[1] if named else "example.yaml"

"""Writes the last line of each section of docs/papers.md: whether this version trains with the file, or why not.

Run with: python -m tests.library.update_papers
"""

from __future__ import annotations

import re
import textwrap
from pathlib import Path

from asyncpipe.schedule import library, load
from asyncpipe.verify.trainable import untrainable

__all__ = ["PAPERS", "training_line"]

PAPERS = Path(__file__).resolve().parents[2] / "docs" / "papers.md"


def training_line(name: str) -> str:
    """`Training: yes.`, or what `run` refuses, in the words of its messages."""
    parts = re.findall("`([^`]*)`", " ".join(found.message for found in untrainable(load(name))))
    return f"Training: not yet: {', '.join(f'`{part}`' for part in parts)}." if parts else "Training: yes."


def _main() -> None:
    text = PAPERS.read_text("utf-8")
    for name in library():
        head, section, rest = re.split(
            rf"(^### {name}\n.*?)^Training: .*?\n(?=\n|\Z)", text, maxsplit=1, flags=re.M | re.S
        )
        line = textwrap.fill(training_line(name), 118, break_long_words=False, break_on_hyphens=False)
        text = f"{head}{section}{line}\n{rest}"
    PAPERS.write_text(text, "utf-8")


if __name__ == "__main__":
    _main()

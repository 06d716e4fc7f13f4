"""Plays the blocks of a document: writes its files, runs its commands, and compares what they say.

`python -m tests.docs.replay` rewrites the outputs of the documents; read the difference before you commit it.
"""

from __future__ import annotations

import io
import os
import re
import shlex
import tempfile
from collections.abc import Iterator
from contextlib import chdir, redirect_stdout
from difflib import SequenceMatcher
from pathlib import Path
from unittest.mock import patch

from tests.command_line import Outcome, invoke
from tests.docs.blocks import Block, blocks, file_name, is_whole

__all__ = ["DOCUMENTS", "chapters", "replayed"]

_DOCS = Path(__file__).parents[2] / "docs"
_NAMES = ("schedule-format.md", "tutorial.md", "simulate.md", "running.md", "tools.md", "kernels.md", "stability.md")
DOCUMENTS = tuple(_DOCS / name for name in _NAMES)
COLUMNS = "100"
_CUT = "[...]"
_NUMBER = re.compile(r"\d+(\.\d+)?")


def chapters(document: Path) -> list[str]:
    """The parts that share their files: the whole tutorial, elsewhere each section."""
    text = document.read_text("utf-8")
    return [text] if document.stem == "tutorial" else re.split(r"^(?=## )", text, flags=re.MULTILINE)


def replayed(text: str, folder: Path) -> str:
    """The text with the outputs that its commands have now, run in an empty folder.

    ValueError where a schedule is refused that should not be, or the other way round.
    """
    pieces, end = [], 0
    with chdir(folder), patch.dict(os.environ, {"COLUMNS": COLUMNS, "NO_COLOR": "1"}):
        for block, said in _played(text):
            pieces += [text[end : block.start], said]
            end = block.end
    return "".join([*pieces, text[end:]])


def _played(text: str) -> Iterator[tuple[Block, str]]:
    """Each block with the text that it should have."""
    checked: Outcome | None = None
    for block in blocks(text):
        if block.language in ("csv", "json"):
            Path(file_name(block)).write_text(block.text, "utf-8")
        elif is_whole(block):
            checked = _checked(block, block.text)
        elif block.language == "yaml":
            _checked(block, f"asyncpipe: 1\nextends: async-lu\n{block.text}")
        elif block.language == "python":
            # A file, since Triton reads the source of its functions.
            example = Path("example.py").absolute()
            example.write_text(block.text, "utf-8")
            with redirect_stdout(io.StringIO()):
                exec(compile(block.text, str(example), "exec"), {})
        elif block.language == "console":
            yield block, "".join(_session(block))
        elif block.language == "text":
            if checked is None:
                raise ValueError(f"no schedule before the lines:\n{block.text}")
            yield block, _chosen(block.text, checked)


def _checked(block: Block, text: str) -> Outcome:
    """What `check` says of a schedule that is refused only where the block says so."""
    name = file_name(block)
    Path(name).write_text(text, "utf-8")
    outcome = invoke("check", name)
    if outcome.code != (3 if "refused" in block.words else 0):
        raise ValueError(f"exit code {outcome.code} for\n{block.text}\n{outcome.stderr}")
    return outcome


def _said(outcome: Outcome) -> list[str]:
    return (outcome.stderr + outcome.stdout).splitlines()


def _chosen(shown: str, outcome: Outcome) -> str:
    """The lines of a `check` that are shown, as they are now."""
    said = [line.removeprefix("  ") if outcome.code == 0 else line for line in _said(outcome)]
    return "".join(f"{_nearest(line, said)}\n" for line in shown.splitlines())


def _nearest(line: str, said: list[str]) -> str:
    """The line that was said and begins with the same word, the most similar if there are several."""
    return said[_most_similar(line, said, range(len(said)))]


def _most_similar(line: str, said: list[str], numbers: range) -> int:
    same = [number for number in numbers if said[number].split()[:1] == line.split()[:1]] or numbers
    return max(same, key=lambda number: SequenceMatcher(None, line, said[number]).ratio())


def _session(block: Block) -> Iterator[str]:
    """The commands of a block, each followed by what it says now."""
    for part in re.split(r"^(?=\$ )", block.text, flags=re.MULTILINE)[1:]:
        command, _, shown = part.partition("\n")
        said = _said(_run(command.removeprefix("$ ")))
        found = _fitted(shown.splitlines(), said)
        if "about" in block.words and _without_numbers(found) == _without_numbers(shown.splitlines()):
            found = shown.splitlines()
        yield "".join(f"{line}\n" for line in [command, *found])


def _run(command: str) -> Outcome:
    program, *arguments = shlex.split(command)
    if program != "asyncpipe":
        raise ValueError(f"expected an asyncpipe command, found {command!r}")
    if ">" not in arguments:
        outcome = invoke(*arguments)
        progress = arguments[0] == "run" and outcome.code == 0
        return Outcome(outcome.code, outcome.stdout, "") if progress else outcome
    *arguments, _, target = arguments
    outcome = invoke(*arguments)
    Path(target).write_text(outcome.stdout, "utf-8")
    return Outcome(outcome.code, "", outcome.stderr)


def _without_numbers(lines: list[str]) -> list[str]:
    return [_NUMBER.sub("#", line) for line in lines]


def _fitted(shown: list[str], said: list[str]) -> list[str]:
    """What was said, cut where the document cuts it."""
    if _CUT not in shown:
        return said
    kept = [line for line in shown if line != _CUT]
    result: list[str] = []
    at = -1
    for left, line in zip(range(len(kept), 0, -1), kept, strict=True):
        found = _next(line, said, range(at + 1, len(said) - left + 1))
        result += [_CUT] if found > at + 1 else []
        result.append(said[found])
        at = found
    return result + ([_CUT] if at < len(said) - 1 else [])


def _next(line: str, said: list[str], numbers: range) -> int:
    """Which of these lines it is, or else the most similar one."""
    if not numbers:
        raise ValueError(f"nothing is said any more where the document shows {line!r}:\n" + "\n".join(said))
    if line in said[numbers.start : numbers.stop]:
        return said.index(line, numbers.start)
    return _most_similar(line, said, numbers)


def main() -> None:
    for document in DOCUMENTS:
        texts = []
        for chapter in chapters(document):
            with tempfile.TemporaryDirectory() as folder:
                texts.append(replayed(chapter, Path(folder)))
        document.write_text("".join(texts), "utf-8")


if __name__ == "__main__":
    main()

"""Whole reports: each file of `cases` holds a command, and what it says.

`python -m tests.tools.fit.reports` rewrites them; read the difference before you commit it.
"""

from __future__ import annotations

import shlex
from contextlib import chdir
from pathlib import Path

from tests.command_line import invoke

__all__ = ["CASES", "said_now"]

FOLDER = Path(__file__).parent
CASES = {path.stem: path for path in sorted((FOLDER / "cases").glob("*.txt"))}
_PROMPT = "$ asyncpipe "


def said_now(text: str) -> str:
    """The text of a case as the command of its first line makes it now, from beside models.py."""
    line = text.partition("\n")[0]
    with chdir(FOLDER):
        outcome = invoke(*shlex.split(line.removeprefix(_PROMPT)))
    # Lines of torch's own code differ with its version and with where it is installed.
    errors = "".join(one for one in outcome.stderr.splitlines(keepends=True) if not one.startswith("  in /"))
    return f"{line}\n{outcome.stdout}{errors}exit code {outcome.code}\n"


def main() -> None:
    for path in CASES.values():
        path.write_text(said_now(path.read_text("utf-8")), "utf-8")


if __name__ == "__main__":
    main()

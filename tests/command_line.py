"""The command line in this process: the same door as the console script, its text as strings."""

from __future__ import annotations

import io
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass

from asyncpipe.cli import cli
from asyncpipe.cli.failures import exit_code_of

__all__ = ["Outcome", "invoke"]


@dataclass(frozen=True)
class Outcome:
    code: int
    stdout: str
    stderr: str


def invoke(*arguments: str) -> Outcome:
    """Runs `asyncpipe ARGUMENTS`."""
    out, err = io.StringIO(), io.StringIO()
    with redirect_stdout(out), redirect_stderr(err):
        code = exit_code_of(lambda: cli.main(list(arguments), prog_name="asyncpipe", standalone_mode=False))
    return Outcome(code, out.getvalue(), err.getvalue())

"""The command line: its commands by name, and the console script."""

from __future__ import annotations

import click

from asyncpipe.cli.failures import exit_code_of
from asyncpipe.cli.lazy import LazyGroup

__all__ = ["cli", "main"]

_COMMANDS = {
    "run": "Train a job under a schedule.",
    "check": "Compile and verify schedules, and say what they do.",
    "show": "Draw a schedule, or print one of its levels.",
    "simulate": "Predict times, staleness and memory, with delays if you like.",
    "schedules": "List the built-in schedules and jobs.",
    "new": "Begin a schedule of your own from another one.",
    "diff": "Say what differs between two schedules.",
    "explain": "Explain the code of a diagnostic.",
    "import": "Read a table of another program into a schedule.",
    "export": "Write a schedule as a table for another program.",
    "schema": "Print the JSON Schema of a format, for editors.",
    "tools": "Report on runs, compare schedules.",
}
_MODULES = {"import": "import_"}
"""Where the name of a command cannot be the name of its module."""


def _version(ctx: click.Context, parameter: click.Parameter, value: bool) -> None:
    if value and not ctx.resilient_parsing:
        from asyncpipe import __version__

        click.echo(f"asyncpipe {__version__}")
        ctx.exit()


@click.group(cls=LazyGroup, helps=_COMMANDS, modules=_MODULES, context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--version", is_flag=True, is_eager=True, expose_value=False, callback=_version, help="Show the version.")
def cli() -> None:
    """Asynchronous training as data: a schedule says which operation waits for which, and streams run it.

    `asyncpipe run` trains the default schedule on the default job; `asyncpipe show async-lu` draws it.
    """


def main() -> None:
    """The console script: runs a command and ends with its exit code."""
    raise SystemExit(exit_code_of(lambda: cli.main(standalone_mode=False)))

"""The command line. Commands load on first use, so that `--help`, `check` and `show` answer at once."""

from __future__ import annotations

from importlib import import_module
from typing import Any

import click

from asyncpipe.cli.failures import exit_code_of

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
}
_MODULES = {"import": "import_"}
"""Where the name of a command cannot be the name of its module."""


class _Lazy(click.Group):
    """A command's module is imported when the command is called; its help line is here."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in _COMMANDS:
            return None
        command: click.Command = import_module(f"asyncpipe.cli.{_MODULES.get(cmd_name, cmd_name)}").command
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(_COMMANDS.items()))

    def resolve_command(self, ctx: click.Context, args: list[str]) -> Any:
        if args and args[0] not in _COMMANDS and not args[0].startswith("-"):
            from asyncpipe.errors import did_you_mean

            ctx.fail(f"no command {args[0]!r}; {did_you_mean(args[0], list(_COMMANDS))}")
        return super().resolve_command(ctx, args)


def _version(ctx: click.Context, parameter: click.Parameter, value: bool) -> None:
    if value and not ctx.resilient_parsing:
        from asyncpipe import __version__

        click.echo(f"asyncpipe {__version__}")
        ctx.exit()


@click.group(cls=_Lazy, context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--version", is_flag=True, is_eager=True, expose_value=False, callback=_version, help="Show the version.")
def cli() -> None:
    """Asynchronous training as data: a schedule says which operation waits for which, and streams run it.

    `asyncpipe run` trains the default schedule on the default job; `asyncpipe show async-lu` draws it.
    """


def main() -> None:
    """The console script: runs a command and ends with its exit code."""
    raise SystemExit(exit_code_of(lambda: cli.main(standalone_mode=False)))

"""`asyncpipe tools doctor`: what this machine has, lacks, and what to do about it."""

from __future__ import annotations

import json
from collections.abc import Sequence

import click

from asyncpipe.cli.options import json_option
from asyncpipe.errors import MachineError, UsageError, did_you_mean

__all__ = ["command"]


@click.command("doctor")
@click.option("--data", multiple=True, metavar="NAME=FOLDER", help="A data set whose files should be there.")
@json_option
@click.pass_context
def command(context: click.Context, /, data: Sequence[str], as_json: bool) -> None:
    """Say what this machine has and lacks, and what to do: ok, warn or fail, line by line.

    Exit code 4 where something fails. Nothing is changed, and nothing is measured.
    """
    from asyncpipe.tools.doctor import examine, gather_environment, has_failed, report_document, report_lines

    environment = gather_environment(dict(map(_named_folder, data)))
    findings = examine(environment)
    if as_json:
        click.echo(json.dumps(report_document(findings, environment)))
    else:
        click.echo("\n".join(report_lines(findings)))
    if has_failed(findings):
        context.exit(MachineError.exit_code)


def _named_folder(text: str) -> tuple[str, str]:
    """`cifar10=~/data`."""
    from asyncpipe.tools.doctor.gather_installation import DATA_SETS

    name, equals, folder = text.partition("=")
    if not equals or not folder:
        raise UsageError(f"--data {text!r}: expected NAME=FOLDER", "as in --data cifar10=~/data")
    if name not in DATA_SETS:
        hint = did_you_mean(name, list(DATA_SETS))
        raise UsageError(f"--data {text!r}: no data set with a folder is called {name!r}", hint)
    return name, folder

"""A group of commands that load on first use, so that `--help`, `check` and `show` answer at once."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from typing import Any

import click

__all__ = ["LazyGroup"]


class LazyGroup(click.Group):
    """`helps`: the command's names and help lines; `modules`: where they are below asyncpipe.cli, by default so named.

    A module is imported when its command is called.
    """

    def __init__(self, *args: Any, helps: Mapping[str, str], modules: Mapping[str, str], **more: Any) -> None:
        super().__init__(*args, **more)
        self.helps = helps
        self.modules = modules

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self.helps)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in self.helps:
            return None
        command: click.Command = import_module(f"asyncpipe.cli.{self.modules.get(cmd_name, cmd_name)}").command
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(self.helps.items()))

    def resolve_command(self, ctx: click.Context, args: list[str]) -> Any:
        if args and args[0] not in self.helps and not args[0].startswith("-"):
            from asyncpipe.errors import did_you_mean

            ctx.fail(f"no command {args[0]!r}; {did_you_mean(args[0], list(self.helps))}")
        return super().resolve_command(ctx, args)

"""`asyncpipe explain`: the page of a diagnostic code."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence

import click

from asyncpipe.cli.options import json_option
from asyncpipe.codes import GROUPS, Page, catalog, find

__all__ = ["command"]

_WIDEST = 120


@click.command("explain")
@click.argument("codes", metavar="[CODE]...", nargs=-1)
@json_option
def command(codes: Sequence[str], as_json: bool) -> None:
    """Explain a diagnostic code: what it means, an example, and how to mend it.

    AP201, ap201 and 201 are the same code; without one, all codes are listed.
    """
    pages = [find(code) for code in codes] or catalog()
    if as_json:
        click.echo(json.dumps(_document(pages)))
    elif codes:
        _show("\n".join(page.text for page in pages))
    else:
        click.echo(_listing(pages), nl=False)


def _document(pages: Sequence[Page]) -> dict[str, object]:
    rows = [{"code": p.code, "group": GROUPS[p.group], "title": p.title, "page": p.text} for p in pages]
    return {"schema": "asyncpipe.explain/1", "codes": rows}


def _listing(pages: Sequence[Page]) -> str:
    lines: list[str] = []
    for group, meaning in GROUPS.items():
        rows = [f"  {page.code}  {page.title}" for page in pages if page.group == group]
        lines += [f"{group}  {meaning}", *rows, ""] if rows else []
    return "\n".join([*lines, "`asyncpipe explain AP201` explains one of them.", ""])


def _show(text: str) -> None:
    """Formatted on a terminal, as it is written anywhere else."""
    if not sys.stdout.isatty():
        click.echo(text, nl=False)
        return
    from rich.console import Console
    from rich.markdown import Markdown

    console = Console(file=sys.stdout)
    console.print(Markdown(text, code_theme="ansi_dark"), width=min(console.width, _WIDEST))

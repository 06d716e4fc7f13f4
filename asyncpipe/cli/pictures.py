"""--svg, --html and --trace: pictures as files, written whole or not at all."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from asyncpipe.errors import UsageError

if TYPE_CHECKING:
    from asyncpipe.pictures.html import Panel

__all__ = ["check_targets", "picture_options", "write_pictures"]

Command = TypeVar("Command", bound=Callable[..., Any])

_KINDS = {
    "--svg": "The picture as SVG; - is stdout.",
    "--html": "The picture as a page with zoom and hover texts.",
    "--trace": "The timeline for Perfetto and chrome://tracing.",
}


def picture_options(command: Command) -> Command:
    """--svg, --html and --trace, each with a file or - for stdout."""
    for option, words in reversed(_KINDS.items()):
        command = click.option(option, metavar="FILE", help=words)(command)
    return command


def check_targets(targets: Mapping[str, str], stdout_is_taken: bool) -> None:
    """UsageError if two outputs would go to one place; `targets` are options with their files."""
    places: dict[str, str] = {"-": "--json"} if stdout_is_taken else {}
    for option, file in targets.items():
        place = file if file == "-" else os.path.realpath(file)
        if place in places:
            where = "stdout" if file == "-" else file
            raise UsageError(f"{places[place]} and {option} both write to {where}", "give each a file of its own")
        places[place] = option


def write_pictures(targets: Mapping[str, str], title: str, panels: Sequence[Panel]) -> None:
    """Writes each target and says so on stderr. The page shows all timelines, other pictures the first.

    UsageError for too many boxes, and for files that cannot be written.
    """
    made = [(option, file, _chunks(option, title, panels)) for option, file in targets.items()]
    for option, file, chunks in made:
        if file == "-":
            for chunk in chunks:
                click.echo(chunk, nl=False)
            continue
        try:
            _write(Path(file), chunks)
        except OSError as error:
            hint = "name a file in a folder that exists and that you may write to"
            raise UsageError(f"{option} {file}: cannot be written: {error.strerror}", hint) from None
        click.echo(f"wrote {file}", err=True)


def _chunks(option: str, title: str, panels: Sequence[Panel]) -> Iterable[str]:
    first = panels[0].timeline
    if option == "--svg":
        from asyncpipe.pictures.svg import MOST_BOXES, svg

        _check_size(option, first.size, MOST_BOXES, "--html and --trace show more")
        return [svg(first, title)]
    if option == "--html":
        from asyncpipe.pictures.html import MOST_BOXES, html

        _check_size(option, sum(panel.timeline.size for panel in panels), MOST_BOXES, "--trace shows more")
        return html(title, panels)
    from asyncpipe.pictures.trace import trace

    return _joined(trace(first, title))


def _check_size(option: str, size: int, most: int, other: str) -> None:
    if size > most:
        message = f"{option} shows at most {most:,} boxes, not {size:,}"
        raise UsageError(message, f"use fewer --microbatches or --stages; {other}")


def _joined(lines: Iterable[str]) -> Iterator[str]:
    rest = iter(lines)
    while some := "".join(islice(rest, 1000)):
        yield some


def _write(path: Path, chunks: Iterable[str]) -> None:
    """A new file takes the old one's place when it is whole; devices and pipes are written as they are."""
    path = Path(os.path.realpath(path))
    if path.exists() and not path.is_file():
        with path.open("w", encoding="utf-8") as file:
            file.writelines(chunks)
        return
    temporary = path.with_name(f".{path.name}.{os.getpid()}.new")
    try:
        with temporary.open("x", encoding="utf-8") as file:
            file.writelines(chunks)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)

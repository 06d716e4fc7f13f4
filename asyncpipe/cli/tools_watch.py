"""`asyncpipe tools watch`: a running job in the terminal."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from asyncpipe.cli.options import json_option
from asyncpipe.errors import UsageError

if TYPE_CHECKING:
    from asyncpipe.tools.watch.watched import Look, Watched

__all__ = ["command"]

_ON_TERMINAL, _ELSEWHERE = 1.0, 5.0
_WAIT = 60.0


@click.command("watch")
@click.argument("run", metavar="RUN")
@click.option("--once", is_flag=True, help="Print one frame and end.")
@click.option(
    "--every",
    type=click.FloatRange(0.2, 3600),
    metavar="SECONDS",
    help=f"From one look to the next; default: {_ON_TERMINAL:g} on a terminal, {_ELSEWHERE:g} elsewhere.",
)
@click.option(
    "--wait", type=click.FloatRange(0), metavar="SECONDS", help=f"For a run that is to begin; default: {_WAIT:g}."
)
@click.option("--width", type=click.IntRange(40, 10_000), help="Columns of a frame; default: the terminal's.")
@json_option
def command(run: str, once: bool, every: float | None, wait: float | None, width: int | None, as_json: bool) -> None:
    """Show a running job from its run directory: loss, speed, evaluation, streams, staleness, GPUs.

    A frame that renews itself on a terminal; elsewhere a line every few seconds, or with --json a document. It ends
    with the run. The run does not notice: its files are read, nothing is asked of its process.
    """
    if once and (every is not None or wait is not None):
        raise UsageError(f"{'--every' if wait is None else '--wait'} has no meaning with --once", "leave it out")
    if width is not None and (as_json or not (once or sys.stdout.isatty())):
        raise UsageError("--width has no meaning without a frame", "leave it out, or use --once")
    from asyncpipe.tools.watch.gpus import RunGpus
    from asyncpipe.tools.watch.watched import Watched

    with RunGpus() as gpus:
        watched = Watched(Path(run), gpus)
        if once:
            _print(watched.once(), as_json, width)
        else:
            _follow(watched, every, _WAIT if wait is None else wait, width, as_json)


def _print(look: Look, as_json: bool, width: int | None) -> None:
    from asyncpipe.tools.watch.frame import frame
    from asyncpipe.tools.watch.line import document

    columns = width or shutil.get_terminal_size((100, 24)).columns
    click.echo(json.dumps(document(look)) if as_json else "\n".join(frame(look, columns, _has_braille())))


def _follow(watched: Watched, every: float | None, wait: float, width: int | None, as_json: bool) -> None:
    from asyncpipe.tools.watch.line import document, line
    from asyncpipe.tools.watch.watched import follow

    if sys.stdout.isatty() and not as_json:
        from asyncpipe.tools.watch.live import LiveFrames

        with LiveFrames(width, _has_braille()) as frames:
            follow(watched, frames.show, every or _ON_TERMINAL, wait)
        return
    say = (lambda look: json.dumps(document(look))) if as_json else line
    follow(watched, lambda look: click.echo(say(look)), every or _ELSEWHERE, wait)


def _has_braille() -> bool:
    """Whether stdout can print it."""
    try:
        "\u28ff".encode(sys.stdout.encoding or "ascii")
    except (LookupError, UnicodeEncodeError):
        return False
    return True

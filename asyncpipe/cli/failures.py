"""The only place that turns exceptions into messages and exit codes."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from asyncpipe.cli.diagnostics import render
from asyncpipe.errors import AsyncpipeError, UserCodeError, UserError, full_disk

__all__ = ["exit_code_of"]

if TYPE_CHECKING:
    from traceback import FrameSummary

INTERRUPTED = 130
BUG = 1


def exit_code_of(command: Callable[[], Any]) -> int:
    """Runs a command; what it raises becomes text on stderr and the exit code of the contract."""
    try:
        result = command()
    except click.exceptions.Exit as leaving:
        return leaving.exit_code
    except click.Abort:
        return _say("interrupted", INTERRUPTED)
    except KeyboardInterrupt:
        return _say("interrupted", INTERRUPTED)
    except click.ClickException as error:
        error.show(sys.stderr)
        return 2
    except UserError as error:
        return _user_error(error)
    except SystemExit as leaving:
        # How click ends when nobody reads stdout any more, as in `asyncpipe show ... | head`.
        if "PacifyFlushWrapper" in type(sys.stdout).__name__:
            return 0
        return _user_error(UserCodeError(f"code of the job ended the program: SystemExit({leaving.code!r})"))
    except OSError as error:
        full = full_disk(error)
        return _bug(error) if full is None else _user_error(full)
    except Exception as error:
        return _bug(error)
    return result if isinstance(result, int) else 0


def _say(message: str, code: int) -> int:
    click.echo(message, err=True)
    return code


def _user_error(error: UserError) -> int:
    text = render(error.diagnostics) if error.diagnostics else f"error: {error}\n"
    click.echo(text, err=True, nl=False)
    cause = error.__cause__
    has_line = any(one.where for one in error.diagnostics)
    if isinstance(error, UserCodeError) and cause is not None and not has_line:
        for frame in _frames_of_the_author(cause):
            click.echo(f"  in {frame.filename}:{frame.lineno}: {frame.line}", err=True)
    return error.exit_code


def _frames_of_the_author(error: BaseException) -> list[FrameSummary]:
    """What the author's code called, from where asyncpipe called it; the ends of a long story."""
    import traceback

    package = str(Path(__file__).parents[1])
    frames = list(traceback.extract_tb(error.__traceback__))
    inside = [i for i, frame in enumerate(frames) if frame.filename.startswith(package)]
    called = frames[inside[-1] + 1 if inside else 0 :]
    # Torch's own frames say something only where there are no others.
    theirs = [frame for frame in called if not frame.filename.startswith((_folder_of("torch"), "<"))] or called
    return theirs if len(theirs) <= 8 else theirs[:4] + theirs[-4:]


def _folder_of(package: str) -> str:
    """Of one that may not be loaded."""
    file = getattr(sys.modules.get(package), "__file__", None)
    return str(Path(file).parent) if file else "<not loaded>"


def _bug(error: Exception) -> int:
    import traceback

    from asyncpipe import __version__

    where = traceback.extract_tb(error.__traceback__)[-1]
    kind = "" if isinstance(error, AsyncpipeError) else f"{type(error).__name__}: "
    click.echo(f"error: a bug in asyncpipe {__version__}: {kind}{error}", err=True)
    click.echo(f"  at {where.filename}:{where.lineno}; ASYNCPIPE_DEBUG=1 shows the whole traceback", err=True)
    if os.environ.get("ASYNCPIPE_DEBUG"):
        traceback.print_exception(error)
    return BUG

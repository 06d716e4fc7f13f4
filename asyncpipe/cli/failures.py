"""The only place that turns exceptions into messages and exit codes."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from typing import Any

import click

from asyncpipe.cli.diagnostics import render
from asyncpipe.errors import AsyncpipeError, ScheduleError, UserCodeError, UserError

__all__ = ["exit_code_of"]

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
    except ScheduleError as error:
        click.echo(render(error.diagnostics), err=True, nl=False)
        return error.exit_code
    except UserError as error:
        return _user_error(error)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except Exception as error:
        return _bug(error)
    return result if isinstance(result, int) else 0


def _say(message: str, code: int) -> int:
    click.echo(message, err=True)
    return code


def _user_error(error: UserError) -> int:
    click.echo(f"error: {error}", err=True)
    cause = error.__cause__
    if isinstance(error, UserCodeError) and cause is not None:
        import traceback

        frames = traceback.extract_tb(cause.__traceback__)
        for frame in frames[-3:]:
            click.echo(f"  in {frame.filename}:{frame.lineno}: {frame.line}", err=True)
    return error.exit_code


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

"""An error inside an action tells which stream, which action and which stage, and whose code it was."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from asyncpipe.errors import AsyncpipeError, UserCodeError, UserError
from asyncpipe.ir import Action
from asyncpipe.runtime.out_of_memory import is_out_of_memory, out_of_memory

__all__ = ["naming_the_action"]


@contextmanager
def naming_the_action(stream: str, action: Action) -> Iterator[None]:
    """Errors of the model, the loss or the data become UserCodeError; our own keep their kind and gain the place."""
    place = f"stream {stream}, action {action} ({action.op.words} of stage {action.stage})"
    try:
        yield
    except UserError as error:
        raise error.within(place) from error.__cause__
    except AsyncpipeError:
        raise
    except Exception as error:
        if is_out_of_memory(error):
            raise out_of_memory(place, error) from error
        raise UserCodeError(f"{place}: {type(error).__name__}: {error}") from error

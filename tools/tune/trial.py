"""One trial: `python -m asyncpipe.tools.tune.trial` reads a request on stdin, and writes a result to stdout as JSON.

The exit code is that of `asyncpipe run`. What the job's code prints goes to stderr.
"""

from __future__ import annotations

import json
import os
import resource
import sys
import threading
import time
import traceback
from collections.abc import Callable
from typing import Any

from asyncpipe.errors import UserError
from asyncpipe.tools.tune.request import Request, read_request

__all__ = ["answer", "main"]

OUT_OF_MEMORY = 8
_LOOK_SECONDS = 0.5
_MEMORY_WORDS = ("out of memory", "can't allocate memory", "cannot allocate memory")


def main() -> int:
    """Reads, runs, writes; nothing else may write to the pipe."""
    with os.fdopen(os.dup(1), "w", encoding="utf-8") as out:
        os.dup2(2, 1)
        request = read_request(json.load(sys.stdin))
        threading.Thread(target=_end_with, args=(os.getppid(),), daemon=True).start()
        code, document = answer(request, _run)
        json.dump(document, out)
    return code


def _end_with(parent: int) -> None:
    """Nobody waits for the trial of a tuning that was killed."""
    while os.getppid() == parent:
        time.sleep(_LOOK_SECONDS)
    os._exit(1)


def answer(request: Request, run: Callable[[Request], dict[str, Any]]) -> tuple[int, dict[str, Any]]:
    """(exit code, what was measured); of a failure `{"failed": reason}`."""
    try:
        _limit_memory(request.memory)
        return 0, run(request)
    except (Exception, KeyboardInterrupt) as error:
        traceback.print_exc()
        return _code(error), {"failed": _reason(error)}


def _run(request: Request) -> dict[str, Any]:
    from asyncpipe.tools.tune.measuring import measure

    return measure(request)


def _limit_memory(limit: int | None) -> None:
    """Allocations beyond the limit fail; libraries that are loaded do not count (RLIMIT_DATA)."""
    if limit is not None:
        resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))


def _code(error: BaseException) -> int:
    if any(_is_lack_of_memory(cause) for cause in _causes(error)):
        return OUT_OF_MEMORY
    if isinstance(error, KeyboardInterrupt):
        return 130
    return error.exit_code if isinstance(error, UserError) else 1


def _is_lack_of_memory(error: BaseException) -> bool:
    """Python's, CUDA's, or that of torch's CPU allocator, which is a plain RuntimeError."""
    words = str(error).lower()
    by_words = isinstance(error, RuntimeError) and any(known in words for known in _MEMORY_WORDS)
    return isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError" or by_words


def _causes(error: BaseException) -> list[BaseException]:
    found = [error]
    while (cause := found[-1].__cause__) is not None:
        found.append(cause)
    return found


def _reason(error: BaseException) -> str:
    """The first line, without advice on options of other commands."""
    message = error.message if isinstance(error, UserError) else f"{type(error).__name__}: {error}"
    return message.splitlines()[0] if message else type(error).__name__


if __name__ == "__main__":
    sys.exit(main())

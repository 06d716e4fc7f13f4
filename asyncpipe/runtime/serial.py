"""The `serial` back end: one thread, virtual time. Bit-reproducible asynchrony, the oracle of other back ends."""

from __future__ import annotations

import time
from collections.abc import Callable

from asyncpipe.ir import Action, Op, replay
from asyncpipe.runtime.execution import Execution
from asyncpipe.runtime.failure import naming_the_action

__all__ = ["run_serial"]

_POLL_SECONDS = 0.5


def run_serial(
    execution: Execution,
    hook: Callable[[int, Action], None] | None = None,
    poll: Callable[[], None] | None = None,
) -> None:
    """Runs a whole program: forwards and backwards read at their start, updates write at their end."""
    program = execution.program
    polled = time.monotonic()
    for _, stream, action, ends in replay(program):
        if ends != (action.op is Op.U):
            continue
        with naming_the_action(program.streams[stream].name, action):
            if hook is not None:
                hook(stream, action)
            execution.run(stream, action)
        if poll is not None and time.monotonic() - polled >= _POLL_SECONDS:
            polled = time.monotonic()
            poll()

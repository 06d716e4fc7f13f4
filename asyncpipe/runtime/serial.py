"""The `serial` back end: one thread, virtual time. Bit-reproducible asynchrony, the oracle of other back ends."""

from __future__ import annotations

import time
from collections.abc import Callable

from asyncpipe.ir import Action, Op, replay_replicas
from asyncpipe.runtime.delays import Delays, VirtualDelays
from asyncpipe.runtime.failure import naming_the_action
from asyncpipe.runtime.replicas import ReplicaGroup

__all__ = ["run_serial"]

_POLL_SECONDS = 0.5


def run_serial(
    group: ReplicaGroup,
    hook: Callable[[int, Action], None] | None = None,
    poll: Callable[[], None] | None = None,
) -> None:
    """Runs a whole program: forwards and backwards read at their start, updates write at their end.

    The virtual time of the run's clock is that of what is being done: of a loss, when its forward ends.
    """
    program = group.program
    delays = VirtualDelays(group.delays or Delays(program, ()))
    polled = time.monotonic()
    now = 0
    for replica, (now, stream, action, ends) in replay_replicas(program, delays.hold, delays.cost):
        known = now if ends or action.op is Op.SYNC else now + delays.cost(replica, stream, action)
        group.clock.virtual = float(known * delays.tick)
        with naming_the_action(program.streams[stream].name, action):
            if hook is not None and ends:
                hook(stream, action)
            group.run(replica, stream, action, ends)
        if poll is not None and time.monotonic() - polled >= _POLL_SECONDS:
            polled = time.monotonic()
            poll()
    group.clock.virtual = float(now * delays.tick)

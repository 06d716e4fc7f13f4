"""Late and slow streams of one run: in virtual time on `serial`, by real sleep on `threads`.

A late stream stands still before the first action of each microbatch, then the action starts and reads, as in the
simulator. A slow one takes so many times as long for all that it runs.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from math import lcm

from asyncpipe.ir import Action, Op, Program

__all__ = ["Delays", "LateStreams", "SlowStreams", "VirtualDelays"]

Time = Fraction | float
_FINEST = 1_000_000
"""Into so many parts a tick is divided where times are random."""


@dataclass(frozen=True)
class LateStreams:
    """`time(replica, stream, microbatch)` says how late; the stream is -1 where all `streams` count as one."""

    streams: frozenset[int]
    replica: int | None
    """None: every replica."""
    together: bool
    time: Callable[[int, int, int], float] | Fraction


@dataclass(frozen=True)
class SlowStreams:
    """All that they run takes `factor` times as long."""

    streams: frozenset[int]
    replica: int | None
    factor: Fraction


class Delays:
    """What disturbs one run of `program`. Times are in units of cost on `serial`, in seconds on `threads`."""

    def __init__(self, program: Program, late: Sequence[LateStreams], slow: Sequence[SlowStreams] = ()) -> None:
        self.program = program
        self.late = late
        self.slow = slow
        # Longer than the number of microbatches in flight, so that an entry never stands for an earlier one.
        self._size = 2 * (max(program.slots, default=1) + program.step + program.every) + program.start + 2
        self._seen: list[dict[tuple[int, int], list[int]]] = [self._rings(each) for each in late]

    def _rings(self, late: LateStreams) -> dict[tuple[int, int], list[int]]:
        units = [-1] if late.together else sorted(late.streams)
        return {(r, u): [-1] * self._size for r in range(self.program.replicas) for u in units}

    def hold(self, replica: int, stream: int, action: Action) -> Time:
        """How long the stream stands still before an action. To be asked once for each action, when it could start."""
        held: Time = 0
        for late, seen in zip(self.late, self._seen, strict=True):
            if stream in late.streams and late.replica in (None, replica):
                unit, microbatch = -1 if late.together else stream, self._microbatch(action)
                ring = seen[replica, unit]
                if ring[microbatch % self._size] < microbatch:
                    ring[microbatch % self._size] = microbatch
                    held += late.time if isinstance(late.time, Fraction) else late.time(replica, unit, microbatch)
        return held

    def _microbatch(self, action: Action) -> int:
        """Of an update the last one."""
        if not action.op.by_update:
            return action.index
        last = (action.index + 1) * self.program.every - 1
        return last if self.program.microbatches is None else min(last, self.program.microbatches - 1)

    def factor(self, replica: int, stream: int) -> Fraction:
        """How many times as long everything takes on a stream."""
        found = Fraction(1)
        for slow in self.slow:
            if stream in slow.streams and slow.replica in (None, replica):
                found *= slow.factor
        return found


class VirtualDelays:
    """Delays in whole ticks, for the clock of the `serial` back end; `tick` is in units of cost."""

    def __init__(self, delays: Delays) -> None:
        self.delays = delays
        program = delays.program
        self._factors = [
            [delays.factor(replica, stream) for stream in range(len(program.streams))]
            for replica in range(program.replicas)
        ]
        constant = [late.time for late in delays.late if isinstance(late.time, Fraction)]
        units = [program.unit * factor for factor in {f for row in self._factors for f in row}]
        parts = lcm(*(each.denominator for each in [*constant, *units, program.unit]))
        self.tick = Fraction(1, parts * (_FINEST if len(constant) < len(delays.late) else 1))

    def hold(self, replica: int, stream: int, action: Action) -> int:
        """A random time becomes the nearest tick."""
        return round(self.delays.hold(replica, stream, action) / self.tick)

    def cost(self, replica: int, stream: int, action: Action) -> int:
        """How long an action takes."""
        return self._costs[self._factors[replica][stream]][action.op][action.stage]

    @cached_property
    def _costs(self) -> dict[Fraction, dict[Op, tuple[int, ...]]]:
        program = self.delays.program
        return {
            factor: {
                op: tuple(int(cost * program.unit * factor / self.tick) for cost in times)
                for op, times in program.costs.items()
            }
            for factor in {factor for row in self._factors for factor in row}
        }
